//! The risks that torture is about, each with a letter and a number that tests and docs name.

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Risk {
    pub(crate) letter: &'static str,
    pub(crate) what: &'static str,
    /// Why no suite is about it, where none is.
    pub(crate) none: Option<&'static str>,
}

const fn risk(letter: &'static str, what: &'static str) -> Risk {
    Risk {
        letter,
        what,
        none: None,
    }
}

const fn none(letter: &'static str, what: &'static str, why: &'static str) -> Risk {
    Risk {
        letter,
        what,
        none: Some(why),
    }
}

/// All of them, in the order in which they are shown.
pub(crate) const RISKS: &[Risk] = &[
    risk("X1", "a future is dropped at every point at which it waits"),
    risk("X2", "each operation of a store fails in each way, once"),
    risk("X3", "several faults in one run"),
    risk(
        "X4",
        "the process aborts before and after each operation of its store",
    ),
    risk("X5", "processes are killed at any moment, all the time"),
    risk("X6", "a network swallows everything"),
    risk(
        "X7",
        "a connection is cut before, during or after what matters",
    ),
    risk(
        "X8",
        "PostgreSQL is killed and restarted, its sessions ended",
    ),
    risk(
        "X9",
        "Redis is killed, stopped, flushed, full, forgets its scripts",
    ),
    risk("X10", "MariaDB finds deadlocks among many"),
    risk("X11", "a clock jumps, the process's or the store's"),
    risk(
        "X12",
        "eight processes migrate at once, and some are killed",
    ),
    risk(
        "X13",
        "everything stops or is abandoned in the middle of work, and nothing is missing",
    ),
    risk(
        "X14",
        "a pool whose `begin()` was dropped, plain, hardened and guarded",
    ),
    risk(
        "CB1",
        "random sequences beside a naive model of the breaker",
    ),
    risk("CB2", "probes that many threads ask for at once"),
    risk(
        "CB3",
        "a probe that is dropped, panics, hangs or says nothing",
    ),
    risk("CB4", "a result that comes after a change of state"),
    risk("CB5", "windows beside a list of all results"),
    risk(
        "CB6",
        "simulated days of a dependency that comes and goes; fleets",
    ),
    risk("CB7", "more keys than there may be"),
    risk("CB8", "the wall clock jumps under a breaker"),
    risk("RB1", "backoffs at the ends of their numbers"),
    risk("RB2", "what real servers say, and what is repeated of it"),
    risk("RB3", "commits that are cut, and repeated only with a key"),
    risk(
        "RB4",
        "how many calls a dead service gets, alone and from a fleet",
    ),
    risk("RB5", "clients that come back together"),
    risk("RB6", "hostile hints of when to come back"),
    risk("RB7", "random limits, held to the nanosecond"),
    risk("RB8", "hedges that are dropped at any point"),
    risk(
        "RL1",
        "every window of every algorithm, beside exact fractions",
    ),
    risk("RL2", "the told time, a nanosecond before and at it"),
    risk(
        "RL3",
        "a fleet whose processes are killed is given no more than the quota",
    ),
    risk(
        "RL4",
        "Redis fails in each way, and what was chosen for it happens",
    ),
    risk("RL5", "no key stays for ever"),
    risk("RL6", "the store's clock goes back or is behind"),
    risk("RL7", "a flood of keys, and of addresses that are made up"),
    risk("RL8", "waiters that go at any point"),
    risk("RL9", "hostile keys on a cluster"),
    none(
        "RL10",
        "places of a concurrency limit that a fleet shares",
        "the limit of concurrency is each process's own",
    ),
    risk(
        "ID1",
        "each key is asked for again and again while processes are killed: one effect",
    ),
    risk("ID2", "a dead process's key is free within its lease"),
    risk(
        "ID3",
        "who stood still past his lease is refused when he goes on",
    ),
    risk("ID4", "the same key for another request"),
    risk("ID5", "the same key of two tenants"),
    risk(
        "ID6",
        "histories of concurrent clients, searched for an order",
    ),
    risk("ID7", "records are reaped while they are asked for"),
    risk("ID8", "a handler's caller leaves at any point"),
    risk("ID9", "Redis forgets everything"),
    risk(
        "ID10",
        "answers that are too long, stream, fail or have trailers",
    ),
    risk(
        "OB1",
        "what is committed is delivered and has one effect, through kills",
    ),
    risk(
        "OB2",
        "writers that commit late and roll back: nothing skipped",
    ),
    risk("OB3", "a relay that stood still past its lease"),
    risk("OB4", "answers of the destination are lost"),
    risk("OB5", "the destination is killed"),
    risk("OB6", "a backlog behind a destination that was down"),
    risk("OB7", "a message that nobody can take"),
    risk(
        "OB8",
        "the database is restarted and its sessions ended under a relay",
    ),
    risk("OB9", "a disk that is full"),
    risk("OB10", "eight relays and deadlocks on MariaDB"),
    risk("OB11", "pruning beside a relay"),
    risk("OB12", "histories of transactions, judged for anomalies"),
    risk("SG1", "each step fails"),
    risk("SG2", "each step and each undo runs twice"),
    risk("SG3", "an undo fails for a while, or for good"),
    risk("SG4", "a crash at each operation of the journal"),
    risk("SG5", "runners are killed and stopped; money is conserved"),
    risk("SG6", "a step's effect arrives after its undo"),
    risk("SG7", "random sagas on a store that fails"),
    risk("SG8", "another definition meets sagas that are under way"),
    risk("SG9", "sleeps through restarts"),
    risk("CA1", "a load that began before a change is kept after it"),
    risk("CA2", "a thousand callers of one missing key"),
    risk("CA3", "the one who loads leaves, panics or dies"),
    risk("CA4", "Redis is down, silent, or slow"),
    risk("CA5", "bytes that are no entry"),
    risk("CA6", "a lost invalidation"),
    risk("CA7", "keys of several parts that could be one another"),
    risk(
        "CA8",
        "that there is none is kept, an error is not, and a flood of either is bounded",
    ),
    risk("CA9", "Redis is flushed, or full"),
    risk("EE1", "canaries in the sources of errors"),
    risk("EE2", "hostile problems, cursors and `Accept` fields"),
    risk("EE3", "what is rendered is read back"),
    risk("EE4", "errors that are too large"),
    risk("EE5", "retryable means what a retry repeats"),
    risk("EE6", "handlers that panic"),
];

pub(crate) fn is_one(letter: &str) -> bool {
    RISKS.iter().any(|risk| risk.letter == letter)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_letter_stands_for_two_risks() {
        let letters: BTreeSet<_> = RISKS.iter().map(|risk| risk.letter).collect();
        assert_eq!(letters.len(), RISKS.len());
        assert!(is_one("X5") && !is_one("X15"));
    }
}
