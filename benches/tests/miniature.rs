//! Every workload runs through, in miniature, and reports what it was asked for: so that benches
//! can't rot.

use std::process::Command;

use serde_json::Value;

/// Runs a workload in miniature against raw, and gives back its JSON.
fn in_miniature(workload: &str, more: &[&str]) -> Value {
    let sized = if workload == "echo" { "--connections" } else { "--tasks" };
    json_of(&[&[workload, "--miniature", sized, "8", "--vs", "raw"], more].concat())
}

fn json_of(arguments: &[&str]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("results.json");
    let output = Command::new(env!("CARGO_BIN_EXE_ringhold-bench"))
        .args(arguments)
        .arg("--json")
        .arg(&json)
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

fn contenders(report: &Value) -> Vec<&str> {
    let results = report["results"].as_array().unwrap();
    results.iter().map(|outcome| outcome["contender"].as_str().unwrap()).collect()
}

#[test]
fn reading_gives_a_rate_a_cost_and_a_ratio_for_both_reads() {
    let report = in_miniature("read", &["--api", "both"]);
    assert_eq!(report["workload"], "read");
    assert_eq!(report["parameters"]["tasks"], 8);
    assert_eq!(report["parameters"]["rounds"], 1);
    assert_eq!(report["parameters"]["file_bytes"], 1_048_576);
    assert_eq!(contenders(&report), ["ringhold", "ringhold-at", "raw"]);
    for outcome in report["results"].as_array().unwrap() {
        for figure in ["ops_per_s", "ratio_to_raw", "cpu_ns_per_op"] {
            for part in ["median", "min", "max"] {
                let value = outcome[figure][part].as_f64().unwrap();
                assert!(value > 0.0, "{}: {figure}.{part} is {value}", outcome["contender"]);
            }
        }
    }
}

#[test]
fn clocked_reads_have_percentiles_too() {
    let report = in_miniature("read", &["--latency"]);
    assert_eq!(report["parameters"]["clocked"], true);
    let raw = &report["results"][1];
    let (p50, p99) = (&raw["latency_p50_ns"]["median"], &raw["latency_p99_ns"]["median"]);
    assert!(p50.as_f64().unwrap() > 0.0 && p50.as_f64() <= p99.as_f64(), "{p50} {p99}");
}

#[test]
fn spawning_and_yielding_run_through() {
    for workload in ["spawn", "yield"] {
        let report = in_miniature(workload, &[]);
        assert_eq!(report["workload"], workload);
        assert_eq!(contenders(&report), ["ringhold", "raw"]);
        assert!(report["results"][0]["cost_to"]["raw"]["median"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn an_echo_gives_the_cost_of_a_message_and_how_long_its_answer_takes() {
    for more in [&[][..], &["--one-cpu"]] {
        let report = in_miniature("echo", more);
        assert_eq!(report["workload"], "echo");
        assert_eq!(contenders(&report), ["ringhold", "ringhold-owned", "raw"]);
        for outcome in report["results"].as_array().unwrap() {
            for figure in ["ops_per_s", "cpu_ns_per_op", "latency_p50_ns", "latency_p99_ns"] {
                let median = outcome[figure]["median"].as_f64().unwrap();
                assert!(median > 0.0, "{}: {figure} is {median}", outcome["contender"]);
            }
        }
        for ratio in ["rate_to", "cost_to", "p99_to"] {
            assert!(report["results"][1][ratio]["raw"]["median"].as_f64().unwrap() > 0.0);
        }
    }
}

#[test]
fn an_echo_of_short_connections_measures_accepting_in_both_raw_ways() {
    let report = in_miniature("echo", &["--messages", "1", "--vs", "raw-polls"]);
    assert_eq!(contenders(&report), ["ringhold", "ringhold-owned", "raw", "raw-polls"]);
    assert_eq!(report["parameters"]["messages"], 1);
    for outcome in report["results"].as_array().unwrap() {
        assert!(outcome["cpu_ns_per_op"]["median"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn groups_give_the_tail_of_reads_alone_and_beside_a_compaction() {
    let report = json_of(&["groups", "--miniature", "--service", "20"]);
    assert_eq!(report["workload"], "groups");
    assert_eq!(report["parameters"]["reads"], 2000);
    let results = report["results"].as_array().unwrap();
    let settings: Vec<_> = results.iter().map(|it| it["setting"].as_str().unwrap()).collect();
    assert_eq!(settings, ["alone", "goal", "shares-only", "no-groups"]);
    for result in results {
        // The other figures are of the time in which nothing else ran here; there may be none.
        assert!(result["all_p99_ns"]["median"].as_f64().unwrap() > 0.0, "{result}");
        assert!(result["left_out"]["median"].as_f64().unwrap() <= 1.0, "{result}");
    }
    for (index, group) in [(0, "reads_busy"), (1, "reads_busy"), (1, "compaction_busy")] {
        assert!(results[index][group]["median"].as_f64().unwrap() > 0.0, "{results:?}");
    }
}

#[test]
fn an_overload_leaves_no_more_in_flight_than_waits_and_no_memory() {
    let report = json_of(&["overload", "--miniature"]);
    assert_eq!(report["workload"], "overload");
    assert_eq!(report["parameters"]["tasks"], 200);
    let results = report["results"].as_array().unwrap();
    let loads: Vec<_> = results.iter().map(|it| it["load"].as_str().unwrap()).collect();
    assert_eq!(loads, ["time-limits", "select", "accepts"]);
    for result in results {
        let median = |figure: &str| result[figure]["median"].as_f64().unwrap();
        assert!(median("rounds_per_s") > 0.0 && median("cpu_ns_per_round") > 0.0, "{result}");
        assert!(median("in_flight_most") <= 1024.0, "{result}");
        assert!(median("grown_bytes") < 4_194_304.0, "{result}");
    }
}

#[test]
fn whole_calls_of_files_give_a_rate_for_each_row_and_its_ratio_to_std() {
    let report = json_of(&["files", "--miniature"]);
    assert_eq!(report["workload"], "files");
    let results = report["results"].as_array().unwrap();
    // Seven rows, with one task and sixteen, on one core and two, by two callers.
    assert_eq!(results.len(), 7 * 2 * 2 * 2);
    for result in results {
        assert!(result["calls_per_s"]["median"].as_f64().unwrap() >= 0.0, "{result}");
        let compared = result["caller"] == "ringhold";
        assert_eq!(result["rate_to_std"].is_object(), compared, "{result}");
    }
}

#[cfg(not(feature = "peers"))]
#[test]
fn a_peer_that_was_not_built_in_is_refused_by_the_name_of_the_feature() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringhold-bench"))
        .args(["read", "--vs", "compio"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("compio") && words.contains("--features peers"), "{words}");
}
