//! The parts that tests of this crate play in a process of their own, to be killed in.
//!
//! `hold` and the name of a server's kind starts such a server, `hold-restarted` kills and
//! restarts it as well, `shared-url` and a kind asks for the shared one: they print what they got,
//! one value a line, and go on until standard input says how to end: `panic`, or anything.
//! `leave-out` leaves something out, and speaks last.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a role has to say is read from its output"
)]

use std::{env, error::Error, io};

use buttress_testkit::{left_out::LeftOut, mysql, nats, postgres, redis};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["hold", kind] => hold(kind, false),
        ["hold-restarted", kind] => hold(kind, true),
        ["shared-url", kind] => {
            let url = match kind {
                "postgres" => postgres::shared_url()?,
                "mysql" => mysql::shared_url()?,
                "nats" => nats::shared_url()?,
                _ => redis::shared_url()?,
            };
            println!("{url}");
            until_told()
        }
        ["leave-out"] => {
            LeftOut::new("the moon", "it is far").register();
            LeftOut::new("the moon", "it is far").register();
            LeftOut::new("the sun", "it is hot").register();
            println!("the role's last words");
            eprintln!("the role's last error");
            Ok(())
        }
        _ => Err(format!("no such role: {words:?}").into()),
    }
}

fn hold(kind: &str, restarted: bool) -> Result<(), Box<dyn Error>> {
    // Types with the same methods.
    macro_rules! hold {
        ($server:ty) => {{
            let server = <$server>::start()?;
            if restarted {
                server.kill();
                server.restart()?;
            }
            println!("{}\n{}", server.pid(), server.directory().display());
            until_told()
        }};
    }
    match kind {
        "postgres" => hold!(postgres::Server),
        "mysql" => hold!(mysql::Server),
        "nats" => hold!(nats::Server),
        _ => hold!(redis::Server),
    }
}

fn until_told() -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    assert_ne!(line.trim(), "panic", "as told");
    Ok(())
}
