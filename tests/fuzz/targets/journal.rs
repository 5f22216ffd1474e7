//! A journal of any lines, as it is read back: never a panic; one that is not legal is an error, and
//! one that is can be driven on.
#![no_main]

use std::sync::{Arc, LazyLock};

use buttress_saga::{
    By, Context, Entry, FailureKind, Saga, SagaId, Sagas, StartOptions, State, Step, StepError,
    store::{Hand, MemoryStore, Store, Then, Write},
};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

struct Says(&'static str);

impl Step for Says {
    type Input = u64;
    type Output = String;

    async fn run(&self, _: &Context<'_, u64>) -> Result<String, StepError> {
        Ok(self.0.to_owned())
    }
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());
static SAGA: LazyLock<Saga<u64>> = LazyLock::new(|| {
    let mut saga = Saga::define("fuzzed", 1);
    for name in ["a", "b", "c"] {
        saga.step(name, Says(name));
    }
    saga.build().unwrap()
});

/// Lines of JSON, as stores keep them, or two bytes for each entry.
fn entries(input: &[u8]) -> Vec<Entry> {
    if input.first() == Some(&b'{') || input.first() == Some(&b'"') {
        let lines = input.split(|byte| *byte == b'\n').take(64);
        return lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
    }
    input
        .chunks_exact(2)
        .take(64)
        .map(|pair| entry(pair[0], pair[1]))
        .collect()
}

fn entry(which: u8, with: u8) -> Entry {
    let (step, attempt) = (usize::from(with & 3), u32::from(with >> 2 & 7));
    let name = ["a", "b", "c", "d"][step].to_owned();
    let (code, by) = ("CODE".to_owned(), By::new("ada", "by hand"));
    let output = ["\"a\"", "\"b\"", "{", "7"][usize::from(with >> 5 & 3)].to_owned();
    let kinds = [
        FailureKind::NotDone,
        FailureKind::Unknown,
        FailureKind::Final,
    ];
    let kind = kinds[usize::from(with >> 6) % 3];
    let until = i64::from(with) << 55;
    match which % 19 {
        0 => Entry::Started {
            step,
            name,
            attempt,
        },
        1 => Entry::Succeeded { step, output },
        2 => Entry::Failed {
            step,
            attempt,
            kind,
            code,
            until: None,
        },
        3 => Entry::Sleeping { step, name, until },
        4 => Entry::Interrupted,
        5 => Entry::TurnedBack { code },
        6 => Entry::UndoStarted { step, attempt },
        7 => Entry::Undone { step },
        8 => Entry::UndoFailed {
            step,
            attempt,
            kind,
            code,
        },
        9 => [Entry::Completed, Entry::AllUndone][usize::from(with & 1)].clone(),
        10 => Entry::Parked { code },
        11 => Entry::Resumed { by },
        12 => Entry::Forced {
            step,
            output: (with & 128 > 0).then_some(output),
            by,
        },
        13 => Entry::Waiting { step, name, until },
        14 => Entry::Failed {
            step,
            attempt,
            kind,
            code,
            until: Some(until),
        },
        15 => Entry::Calling {
            step,
            name,
            attempt,
            child: SagaId::from_bytes([with; 16]),
            until: (with & 64 > 0).then_some(until),
        },
        16 => Entry::CallingBack { step, attempt },
        17 => Entry::CalledBack { code },
        _ => Entry::Cancelled { by },
    }
}

fuzz_target!(|input: &[u8]| {
    let entries = entries(input);
    RUNTIME.block_on(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let sagas = Sagas::shared(Arc::clone(&store));
        let started = sagas.start(&SAGA, &7, StartOptions::new()).await.unwrap();
        let id = started.id();
        let write = Write {
            expected: 0,
            entries: entries.clone(),
            state: State::Running,
            reason: None,
            then: Then::Keep,
            progress: true,
            starts: Vec::new(),
            wakes: None,
        };
        store.append(id, Hand::Operator, &write).await.unwrap();
        match sagas.history(&SAGA, id).await {
            Ok(history) => assert_eq!(history.steps.len(), 3),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let _ = sagas.cancel(&SAGA, id, By::new("ada", "fuzz")).await;
    });
    for entry in &entries {
        let written = serde_json::to_vec(entry).unwrap();
        assert_eq!(serde_json::from_slice::<Entry>(&written).unwrap(), *entry);
    }
});
