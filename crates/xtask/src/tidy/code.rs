//! A Rust file as its tokens: no comments, and strings without what they say.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};

/// The tokens of a file, in order, brackets among them.
#[derive(Debug, Default)]
pub(super) struct Code {
    tokens: Vec<Token>,
    /// How many of them come before the file's closing `#[cfg(test)] mod tests`.
    shipped: usize,
}

#[derive(Debug)]
struct Token {
    first_line: usize,
    last_line: usize,
    text: String,
}

impl Code {
    pub(super) fn read(text: &str) -> Result<Self> {
        let stream: TokenStream = text.parse().map_err(|error| anyhow!("{error}"))?;
        let lines: Vec<&str> = text.lines().collect();
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let closing = closing_tests(&trees);
        let mut code = Self::default();
        code.flatten(trees[..closing].to_vec(), &lines);
        code.shipped = code.tokens.len();
        code.flatten(trees[closing..].to_vec(), &lines);
        Ok(code)
    }

    /// How many lines have something on them, closing tests left out. A string of several lines
    /// counts with all of them.
    pub(super) fn lines(&self) -> usize {
        let lines: BTreeSet<usize> = self.tokens[..self.shipped]
            .iter()
            .flat_map(|token| token.first_line..=token.last_line)
            .collect();
        lines.len()
    }

    /// The lines at which `words` begin, one token each: brackets are tokens, and so is every
    /// character of an operator.
    pub(super) fn find(&self, words: &[&str]) -> Vec<usize> {
        find(&self.tokens, words)
    }

    /// The same, closing tests left out.
    pub(super) fn find_shipped(&self, words: &[&str]) -> Vec<usize> {
        find(&self.tokens[..self.shipped], words)
    }

    fn flatten(&mut self, trees: Vec<TokenTree>, lines: &[&str]) {
        let mut trees = trees.into_iter().peekable();
        while let Some(tree) = trees.next() {
            match tree {
                TokenTree::Punct(punct) if is_comment(punct.span(), lines) => {
                    // A doc comment comes as an attribute: `#`, perhaps `!`, and `[doc = …]`.
                    trees.next_if(|it| matches!(it, TokenTree::Punct(it) if it.as_char() == '!'));
                    trees.next();
                }
                TokenTree::Group(group) => self.flatten_group(&group, lines),
                TokenTree::Ident(ident) => self.push(ident.span(), ident.to_string()),
                TokenTree::Punct(punct) => self.push(punct.span(), punct.to_string()),
                TokenTree::Literal(literal) => self.push(literal.span(), String::new()),
            }
        }
    }

    fn flatten_group(&mut self, group: &Group, lines: &[&str]) {
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => ("", ""),
        };
        self.push(group.span_open(), open.into());
        self.flatten(group.stream().into_iter().collect(), lines);
        self.push(group.span_close(), close.into());
    }

    fn push(&mut self, span: Span, text: String) {
        self.tokens.push(Token {
            first_line: span.start().line,
            last_line: span.end().line,
            text,
        });
    }
}

fn find(tokens: &[Token], words: &[&str]) -> Vec<usize> {
    tokens
        .windows(words.len())
        .filter(|window| window.iter().map(|token| &token.text).eq(words))
        .map(|window| window[0].first_line)
        .collect()
}

/// Whether a `#` was made of a doc comment: then the text has none in its place.
fn is_comment(span: Span, lines: &[&str]) -> bool {
    let start = span.start();
    let line = lines.get(start.line.saturating_sub(1));
    line.and_then(|line| line.chars().nth(start.column)) == Some('/')
}

/// Where the closing `#[cfg(test)] mod tests { … }` of a file begins, its attributes included.
fn closing_tests(trees: &[TokenTree]) -> usize {
    let end = trees.len();
    let [
        ..,
        TokenTree::Ident(word),
        TokenTree::Ident(_),
        TokenTree::Group(body),
    ] = trees
    else {
        return end;
    };
    if word != "mod" || body.delimiter() != Delimiter::Brace {
        return end;
    }
    let mut begin = end - 3;
    let mut for_tests = false;
    while let [.., TokenTree::Punct(hash), TokenTree::Group(attribute)] = &trees[..begin] {
        if hash.as_char() != '#' {
            break;
        }
        for_tests |= attribute.stream().to_string().replace(' ', "") == "cfg(test)";
        begin -= 2;
    }
    if for_tests { begin } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r##"//! A door. async
/* a
   block */
use std::fmt; // tokio

/// Says: todo!()
#[derive(Debug)] /** rand */
struct One; // one

const TEXT: &str = r#"dbg!(

async"#;

#[cfg(test)]
#[expect(dead_code, reason = "planted")]
mod tests {
    use rand::rng;

    fn two() {}
}
"##;

    #[test]
    fn neither_blanks_nor_comments_nor_closing_tests_are_lines_of_code() {
        let code = Code::read(FILE).unwrap();
        // use, derive, struct, and the three lines of the string.
        assert_eq!(code.lines(), 6);
    }

    #[test]
    fn tests_that_do_not_close_the_file_count() {
        let code = Code::read("#[cfg(test)]\nmod tests {}\nstruct After;").unwrap();
        assert_eq!(code.lines(), 3);
        let code = Code::read("struct Before;\nmod tests {}\n").unwrap();
        assert_eq!(code.lines(), 2);
    }

    #[test]
    fn words_are_found_in_code_alone() {
        let code = Code::read(FILE).unwrap();
        for said in ["async", "tokio", "todo", "dbg"] {
            assert!(code.find(&[said]).is_empty(), "{said}");
        }
        assert_eq!(code.find(&["std", ":", ":", "fmt"]), [4]);
        assert_eq!(code.find(&["rand"]), [17]);
        assert!(code.find_shipped(&["rand"]).is_empty());
    }

    #[test]
    fn what_is_no_rust_is_an_error() {
        assert!(Code::read("fn ( {").is_err());
    }
}
