//! Each fault at each operation of a story, and none left out.

use std::collections::BTreeSet;

use buttress_testkit::fault::{Fault, Injection};
use futures_util::StreamExt as _;

use super::Told;

/// Each operation of the story fails in each of these ways, on a stage that is made for each story.
pub(super) async fn sweep(
    kind: &str,
    faults: &[Fault],
    must: &[&str],
    tell: impl AsyncFn(Option<Injection>) -> Told,
) {
    let _tally = buttress_testkit::tally::suite("X2");
    let mut calm = tell(None).await.1;
    // On a loaded machine leases lapse, and a story takes another way.
    let mut tries = 0..8;
    while !must.iter().all(|name| calm.contains(name)) && tries.next().is_some() {
        calm = tell(None).await.1;
    }
    let mut struck = BTreeSet::new();
    let mut injected = 0;
    for fault in faults {
        // On until all come too late to strike: how many operations there are is not known, and
        // how often it is looked at who writes depends on the time.
        for from in (1..).step_by(8) {
            let some = futures_util::stream::iter(from..from + 8);
            let some = some.map(|operation| tell(Some(Injection::new(operation, *fault))));
            let some: Vec<Told> = some.buffer_unordered(8).collect().await;
            let names: Vec<_> = some.into_iter().map(|(name, _)| name).collect();
            injected += names.iter().flatten().count();
            struck.extend(names.iter().copied().flatten());
            if names.iter().all(Option::is_none) {
                break;
            }
        }
    }
    // How many operations there were before one depends on the time: it may have been missed. Where it
    // was the last time is where it is looked for.
    for name in must {
        let mut place = calm.iter().rposition(|it| it == name).unwrap();
        for before in 0..24 {
            if !struck.contains(name) {
                let operation = u32::try_from(place + 1).unwrap().saturating_sub(before % 8);
                let fault = Injection::new(operation.max(1), faults[0]);
                let (hit, names) = tell(Some(fault)).await;
                struck.extend(hit);
                place = names.iter().rposition(|it| it == name).unwrap_or(place);
            }
        }
    }
    println!("{kind}: {injected} faults, at {struck:?}");
    for name in must {
        assert!(struck.contains(name), "{name} was never struck: {struck:?}");
    }
}
