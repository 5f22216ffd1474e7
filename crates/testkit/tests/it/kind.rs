//! The kinds of servers, for the tests that hold for each.

use std::path::Path;

use buttress_testkit::{left_out::LeftOut, mysql, nats, postgres, programs::NotFound, redis};

/// A server of some kind.
pub(crate) trait Private: Send {
    fn pid(&self) -> u32;
    fn directory(&self) -> &Path;
    fn url(&self) -> String;
    fn kill(&self);
    fn restart(&self);

    /// Where its URL leads: `127.0.0.1:port`.
    fn address(&self) -> String {
        let url = self.url();
        let (_, rest) = url.split_once("://").unwrap();
        let place = rest.split('/').next().unwrap();
        place.rsplit('@').next().unwrap().to_owned()
    }
}

macro_rules! private {
    ($server:ty, $url:expr) => {
        impl Private for $server {
            fn pid(&self) -> u32 {
                self.pid()
            }
            fn directory(&self) -> &Path {
                self.directory()
            }
            fn url(&self) -> String {
                $url(self)
            }
            fn kill(&self) {
                self.kill();
            }
            fn restart(&self) {
                self.restart().unwrap();
            }
        }
    };
}

private!(postgres::Server, |it: &postgres::Server| it.url("postgres"));
private!(mysql::Server, |it: &mysql::Server| it.url("mysql"));
private!(nats::Server, nats::Server::url);
private!(redis::Server, redis::Server::url);

pub(crate) struct Kind {
    /// What the role calls it.
    pub(crate) name: &'static str,
    pub(crate) variable: &'static str,
    /// What its program makes in its directory before the server begins, or first of all.
    pub(crate) made_early: &'static str,
    pub(crate) start: fn() -> Box<dyn Private>,
    find: fn() -> Result<(), NotFound>,
}

pub(crate) const POSTGRES: Kind = Kind {
    name: "postgres",
    variable: postgres::URL_VARIABLE,
    made_early: "data/base",
    start: || Box::new(postgres::Server::start().unwrap()),
    find: || postgres::find().map(drop),
};

pub(crate) const MYSQL: Kind = Kind {
    name: "mysql",
    variable: mysql::URL_VARIABLE,
    made_early: "data",
    start: || Box::new(mysql::Server::start().unwrap()),
    find: || mysql::find().map(drop),
};

pub(crate) const REDIS: Kind = Kind {
    name: "redis",
    variable: redis::URL_VARIABLE,
    made_early: "log",
    start: || Box::new(redis::Server::start().unwrap()),
    find: || redis::find().map(drop),
};

pub(crate) const NATS: Kind = Kind {
    name: "nats",
    variable: nats::URL_VARIABLE,
    made_early: "log",
    start: || Box::new(nats::Server::start().unwrap()),
    find: || nats::find().map(drop),
};

impl Kind {
    /// Whether it is there; if it is not, the gap is registered.
    pub(crate) fn is_here(&self) -> bool {
        let found = (self.find)();
        if let Err(not_found) = &found {
            let subject = format!("tests of private {} servers", self.name);
            LeftOut::new(subject, not_found.to_string()).register();
        }
        found.is_ok()
    }
}

/// Each of these functions of a [`Kind`] is a test for each kind that is here.
macro_rules! for_each_kind {
    ($($claim:ident)*) => {
        for_each_kind!(@ postgres POSTGRES $($claim)*);
        for_each_kind!(@ mysql MYSQL $($claim)*);
        for_each_kind!(@ nats NATS $($claim)*);
        for_each_kind!(@ redis REDIS $($claim)*);
    };
    (@ $module:ident $kind:ident $($claim:ident)*) => {
        mod $module {
            use crate::kind::$kind;
            $(
                #[test]
                fn $claim() {
                    if $kind.is_here() {
                        super::$claim(&$kind);
                    }
                }
            )*
        }
    };
}
pub(crate) use for_each_kind;
