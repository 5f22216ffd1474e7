//! Each checker passes the right object and fails on each bug that was planted for it.

use std::{env, panic::AssertUnwindSafe, path::Path, sync::Arc};

use buttress_testkit::{
    cancel_sweep::cancel_sweep,
    child::{Child, role},
    fault::{CrashPoint, Fault, Plan, crash_points, fault_sweep},
    linearizability::{
        Access, Accessed, Claim, ClaimCall, NotLinearizable, Recorder, Register, check,
    },
    planted::{
        Accounts, AccountsError, ClaimBug, Claims, PermitBug, Permits, RegisterBug, SharedRegister,
        TransferBug,
    },
    seed::Seed,
};
use futures_util::FutureExt as _;
use rand::RngExt as _;
use tokio::task::{JoinSet, yield_now};

const FOLDER: &str = "BUTTRESS_TESTKIT_TEST_FOLDER";
const BUG: &str = "BUTTRESS_TESTKIT_TEST_BUG";

/// Four clients at a register, each with its own choices.
async fn is_linearizable(bug: RegisterBug) -> bool {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let register = Arc::new(SharedRegister::new(bug));
    let recorder = Recorder::new();
    let mut clients = JoinSet::new();
    for client in 1..=4 {
        let (register, recorder) = (Arc::clone(&register), recorder.clone());
        let choices: Vec<u32> = (0..50).map(|_| rng.random_range(0..3)).collect();
        clients.spawn(async move {
            for (number, choice) in (1..).zip(choices) {
                let value = client * 1000 + number;
                match choice {
                    0 => {
                        let pending = recorder.call("x", Access::Write(value));
                        register.write(value).await;
                        pending.returned(Accessed::Done);
                    }
                    1 => {
                        let pending = recorder.call("x", Access::Read);
                        let seen = register.read().await;
                        pending.returned(Accessed::Value(seen));
                        let call = Access::CompareAndSet {
                            from: seen,
                            to: value,
                        };
                        let pending = recorder.call("x", call);
                        let set = register.compare_and_set(seen, value).await;
                        pending.returned(Accessed::Set(set));
                    }
                    _ => {
                        let pending = recorder.call("x", Access::Read);
                        let seen = register.read().await;
                        pending.returned(Accessed::Value(seen));
                    }
                }
            }
        });
    }
    clients.join_all().await;
    verdict(check(&Register::new(0), &recorder))
}

/// Four clients want the same work.
async fn is_claimed_by_one(bug: ClaimBug) -> bool {
    let claims = Arc::new(Claims::new(bug));
    let recorder = Recorder::new();
    let mut clients = JoinSet::new();
    for token in 1..=4 {
        let (claims, recorder) = (Arc::clone(&claims), recorder.clone());
        clients.spawn(async move {
            let pending = recorder.call("job", ClaimCall::Claim(token));
            let granted = claims.claim(token).await;
            pending.returned(granted);
            if granted {
                // It has work to do, and the others are impatient.
                for _ in 0..5 {
                    yield_now().await;
                }
            }
            if granted && token % 2 == 0 {
                let pending = recorder.call("job", ClaimCall::Release(token));
                pending.returned(claims.release(token).await);
            }
            let pending = recorder.call("job", ClaimCall::Complete(token));
            pending.returned(claims.complete(token).await);
        });
    }
    clients.join_all().await;
    verdict(check(&Claim::default(), &recorder))
}

fn verdict(checked: Result<usize, NotLinearizable>) -> bool {
    match checked {
        Ok(_) => true,
        Err(NotLinearizable::NoOrder { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_search_for_an_order_finds_a_lost_write_and_a_stale_read() {
    let tally = buttress_testkit::tally::suite("ID6");
    for _ in 0..10 {
        assert!(is_linearizable(RegisterBug::None).await);
        assert!(!is_linearizable(RegisterBug::LostWrite).await);
        assert!(!is_linearizable(RegisterBug::StaleRead).await);
    }
    tally.caught(2);
}

#[tokio::test]
async fn the_search_for_an_order_finds_a_double_grant_and_a_missing_fence() {
    let tally = buttress_testkit::tally::suite("ID6");
    assert!(is_claimed_by_one(ClaimBug::None).await);
    assert!(!is_claimed_by_one(ClaimBug::DoubleGrant).await);
    assert!(!is_claimed_by_one(ClaimBug::NoFence).await);
    tally.caught(2);
}

#[tokio::test]
async fn the_cancel_sweep_finds_a_permit_that_is_lost_with_its_work() {
    let tally = buttress_testkit::tally::suite("X1");
    for (bug, found) in [(PermitBug::None, false), (PermitBug::LostOnDrop, true)] {
        let permits = Permits::new(bug);
        let sweep = cancel_sweep(
            async || permits.work().await,
            async |_| assert_eq!(permits.out(), 0),
        );
        let swept = AssertUnwindSafe(sweep).catch_unwind().await;
        assert_eq!(swept.is_err(), found, "{bug:?}");
    }
    tally.caught(1);
}

async fn money_survives_faults(bug: TransferBug) -> bool {
    let room = tempfile::tempdir().unwrap();
    let mut run = 0;
    let faults = [Fault::Before, Fault::DoneThenError, Fault::Reset];
    let sweep = fault_sweep(&faults, AccountsError::Injected, async |plan| {
        run += 1;
        let folder = room.path().join(run.to_string());
        std::fs::create_dir(&folder).unwrap();
        let accounts = Accounts::new(bug, &folder, plan);
        // It may fail; then somebody brings it to an end.
        let _ = accounts.transfer().await;
        accounts.recover().await.unwrap();
        assert_eq!(accounts.total().unwrap(), 10);
    });
    AssertUnwindSafe(sweep).catch_unwind().await.is_ok()
}

#[tokio::test]
async fn the_fault_sweep_finds_a_half_transfer_and_a_blind_retry() {
    let tally = buttress_testkit::tally::suite("X2");
    assert!(money_survives_faults(TransferBug::None).await);
    assert!(!money_survives_faults(TransferBug::HalfDone).await);
    assert!(!money_survives_faults(TransferBug::BlindRetry).await);
    tally.caught(2);
}

/// Transfers, and crashes where it is told.
#[tokio::test]
async fn transfer_role() {
    let Some(_role) = role("transfer") else {
        return;
    };
    let bug = match env::var(BUG).as_deref() {
        Ok("None") => TransferBug::None,
        _ => TransferBug::HalfDone,
    };
    let folder = env::var_os(FOLDER).unwrap();
    let plan = CrashPoint::from_environment().map_or_else(Plan::none, Plan::crash);
    let accounts = Accounts::new(bug, folder.as_ref(), plan);
    accounts.transfer().await.unwrap();
}

/// Whether money survives a crash at each of so many operations.
async fn money_survives_crashes(bug: TransferBug, operations: u32, room: &Path) -> bool {
    let mut survives = true;
    for point in crash_points(operations) {
        let folder = room.join(format!("{bug:?} {point}"));
        std::fs::create_dir(&folder).unwrap();
        let mut child = Child::role("transfer", "planted::transfer_role")
            .environment(FOLDER, &folder)
            .environment(BUG, format!("{bug:?}"))
            .environment(CrashPoint::VARIABLE, point.to_string())
            .spawn();
        child.abort().await;
        let accounts = Accounts::new(bug, &folder, Plan::none());
        accounts.recover().await.unwrap();
        survives &= accounts.total().unwrap() == 10;
    }
    survives
}

#[tokio::test]
async fn the_crash_sweep_finds_a_half_transfer() {
    let tally = buttress_testkit::tally::suite("X4");
    let room = tempfile::tempdir().unwrap();
    assert!(money_survives_crashes(TransferBug::None, 4, room.path()).await);
    assert!(!money_survives_crashes(TransferBug::HalfDone, 2, room.path()).await);
    tally.caught(1);
}
