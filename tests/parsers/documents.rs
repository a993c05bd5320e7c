//! Files that the charm itself wrote, after something else was at them: `identity.json`, `position.json`, the history,
//! the watcher's file.

use proptest::prelude::*;
use valkey_operator::charm::WatchFile;
use valkey_operator::history::Entry;
use valkey_operator::planner::peer_data::{Identity, Position};
use valkey_operator::workload::{Backend as _, Layout, ProcessWorkload, Workload};
use valkey_operator::{history, watch};

use super::mutate::{config, hostile};

const POSITION: &str = r#"{"history":"8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb","offset":4711,"epoch":3,"primary":true,"clean":false,"recorded_at":1790000000}"#;

const ENTRY: &str = r#"{"at":1790000000,"from":"valkey/0","to":"valkey/1","planned":true,"path":"server","pause-ms":7,"lost-bytes":0,"old-offset":10,"new-offset":12,"epoch":4}"#;

const WATCH: &str = r#"{"unit":"valkey/0","charm_dir":"/c","address":"10.0.0.1","storage":"/s","run":"/r","credentials":{"charmed-stats-password":"x"}}"#;

fn identity() -> String {
    format!(
        r#"{{"deployment_id":"5f0c2e7a","unit":"valkey/0","generation":1,"position":{POSITION}}}"#
    )
}

fn documents() -> Vec<Vec<u8>> {
    vec![
        identity().into_bytes(),
        POSITION.into(),
        ENTRY.into(),
        format!("[{ENTRY},{ENTRY}]").into_bytes(),
        WATCH.into(),
    ]
}

#[test]
fn documents_as_they_are_written_are_understood() {
    let identity: Identity = serde_json::from_str(&identity()).unwrap();
    assert_eq!(
        identity.position,
        Some(serde_json::from_str::<Position>(POSITION).unwrap())
    );
    assert_eq!(Entry::read(ENTRY).map(|entry| entry.epoch), Some(4));
    assert_eq!(
        serde_json::from_str::<WatchFile>(WATCH).unwrap().unit,
        "valkey/0"
    );
}

/// What a peer says of a change goes into this unit's history, which is read whole: it must stay small.
#[test]
fn a_change_that_a_peer_tells_is_short_or_not_believed() {
    let long = "v".repeat(50_000);
    for text in [
        ENTRY.replace("valkey/1", &long),
        ENTRY.replace("valkey/0", &long),
        ENTRY.replace("server", &long),
        ENTRY.replace("valkey/1", "valkey/1\\u0000"),
    ] {
        assert_eq!(Entry::read(&text), None, "{} bytes", text.len());
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn any_document_is_read_or_refused(bytes in hostile(documents())) {
        if let Ok(identity) = serde_json::from_slice::<Identity>(&bytes) {
            let again = serde_json::to_vec(&identity).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Identity>(&again).unwrap(), identity);
        }
        if let Ok(position) = serde_json::from_slice::<Position>(&bytes) {
            let again = serde_json::to_vec(&position).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Position>(&again).unwrap(), position);
        }
        if let Some(entry) = Entry::read(&String::from_utf8_lossy(&bytes)) {
            let again = serde_json::to_string(&entry).unwrap();
            prop_assert!(again.len() < 1500, "{} bytes", again.len());
            prop_assert_eq!(Entry::read(&again), Some(entry));
        }
        let _ = serde_json::from_slice::<WatchFile>(&bytes);
    }
}

proptest! {
    #![proptest_config(config(300))]

    /// The same through the files themselves: a damaged one is named or counts as missing, and the next write mends it.
    #[test]
    fn any_file_beside_the_data_is_survived(bytes in hostile(documents())) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let root = tempfile::tempdir().unwrap();
            let storage = root.path().join("storage");
            std::fs::create_dir_all(&storage).unwrap();
            let layout = Layout::new(storage.clone(), root.path().join("run"));
            let workload = Workload::Process(ProcessWorkload::new(layout));
            for name in ["position.json", "failover-history.json"] {
                std::fs::write(storage.join(name), &bytes).unwrap();
            }
            std::fs::write(workload.layout().identity(), &bytes).unwrap();
            match workload.read_identity::<Identity>().await {
                Ok(Some(mut identity)) => watch::merge_position(&workload, &mut identity).await.unwrap(),
                Ok(None) => panic!("the file is there"),
                Err(error) => assert!(error.to_string().starts_with("cannot "), "{error}"),
            }
            let entry = Entry::read(ENTRY).unwrap();
            history::append(&workload, entry.clone()).await.unwrap();
            let kept = history::read(&workload).await;
            assert!(kept.iter().any(|known| known.epoch == entry.epoch && known.to == entry.to));
            let written = workload.read(&storage.join("failover-history.json")).await.unwrap().unwrap();
            assert!(written.len() < 1_000_000, "{} bytes", written.len());
        });
    }
}
