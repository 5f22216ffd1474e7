//! The parts that tests of this crate play in a process of their own, to be killed in.
//!
//! `hold` starts a Postgres server, `shared-url` asks for the shared one: both print what they
//! got, one value a line, and go on until standard input says how to end: `panic`, or anything.
//! `leave-out` leaves something out, and speaks last.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a role has to say is read from its output"
)]

use std::{env, error::Error, io};

use buttress_testkit::{
    left_out::LeftOut,
    postgres::{Server, shared_url},
};

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("hold") => {
            let server = Server::start()?;
            println!("{}\n{}", server.pid(), server.directory().display());
            until_told()
        }
        Some("shared-url") => {
            println!("{}", shared_url()?);
            until_told()
        }
        Some("leave-out") => {
            LeftOut::new("the moon", "it is far").register();
            LeftOut::new("the moon", "it is far").register();
            LeftOut::new("the sun", "it is hot").register();
            println!("the role's last words");
            eprintln!("the role's last error");
            Ok(())
        }
        other => Err(format!("no such role: {other:?}").into()),
    }
}

fn until_told() -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    assert_ne!(line.trim(), "panic", "as told");
    Ok(())
}
