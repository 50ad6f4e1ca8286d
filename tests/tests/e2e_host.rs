//! Bringing a machine up, adding one, taking it out again: as a person does it.

use longshore_tests::fixture::{BASE_IMAGE, Host, Output};

fn done(output: &Output, code: i32) {
    assert_eq!(output.code, code, "{}\n{}", output.stdout, output.stderr);
}

fn up(host: &Host, more: &[&str]) -> Output {
    let data = host.data("main");
    let mut arguments = vec!["up", "--data", &data, "--listen", &host.address];
    arguments.extend(["--default-image", BASE_IMAGE]);
    arguments.extend(["--admin-email", "dana@lab.example", "--name", "here"]);
    arguments.extend(more);
    host.longshore(&arguments, "")
}

#[test]
fn a_machine_comes_up_runs_work_and_is_emptied_again() {
    let host = Host::new();
    let first = up(&host, &[]);
    done(&first, 0);
    for line in [
        "coordinator  https://",
        "agent        here: cpu",
        "first admin  ",
    ] {
        assert!(first.stdout.contains(line), "{line}: {}", first.stdout);
    }
    assert!(first.stdout.contains("hello from s-1"), "{}", first.stdout);
    let run = host.longshore(&["run", "--", "sh", "-c", "echo out; exit 3"], "");
    done(&run, 3);
    assert_eq!(run.stdout, "out\n");
    for (arguments, code, said) in [
        (&["run", "--mem", "12x", "--", "true"][..], 2, "12x"),
        (&["run", "--gpu", "1", "--", "true"], 125, "LS-SLOT-UNKNOWN"),
        (&["stop", "s-999"], 3, "s-999"),
    ] {
        let refused = host.longshore(arguments, "");
        done(&refused, code);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    let again = up(&host, &[]);
    done(&again, 0);
    assert!(!again.stdout.contains("first run"), "{}", again.stdout);
    let status = host.longshore(&["status"], "");
    done(&status, 0);
    let data = host.data("main");
    done(&host.longshore(&["down", "--data", &data], ""), 0);
    done(&host.longshore(&["status"], ""), 1);
    done(
        &host.longshore(&["down", "--purge", "--data", &data], ""),
        2,
    );
    done(
        &host.longshore(&["down", "--purge", "--yes", "--data", &data], ""),
        0,
    );
    assert!(!host.path("main").exists());
}

#[test]
fn a_second_machine_joins_is_started_again_and_leaves() {
    let host = Host::new();
    done(&up(&host, &["--no-agent", "--no-session"]), 0);
    let node = host.data("node");
    let arguments = [
        "join",
        &host.address,
        "--token",
        "-",
        "--name",
        "there",
        "--data",
        &node,
    ];
    let join = |token: &str| host.longshore(&arguments, token);
    let wrong = join("lst_nonsense");
    done(&wrong, 1);
    assert!(!host.path("node").join("agent/identity.json").exists());

    let token = host.longshore(&["token", "create", "-o", "json"], "");
    done(&token, 0);
    let token: serde_json::Value = serde_json::from_str(&token.stdout).expect("it is JSON");
    let token = token["token"].as_str().expect("the token is in the answer");
    let joined = join(token);
    done(&joined, 0);
    let linked = format!(
        "linked to {} as there, group default; offers cpu",
        host.address
    );
    assert!(joined.stdout.contains(&linked), "{}", joined.stdout);

    // Once more does no harm and needs no token.
    let again = join("");
    done(&again, 0);
    assert!(again.stdout.contains("runs already"), "{}", again.stdout);
    let status = host.longshore(&["status", "--data", &node], "");
    done(&status, 0);
    assert!(status.stdout.contains("joined"), "{}", status.stdout);
    let onto = host.longshore(&["up", "--data", &node], "");
    done(&onto, 2);

    // A machine that was started again: nothing of ours runs, all is where it was.
    done(&host.longshore(&["down", "--data", &node], ""), 0);
    done(&host.longshore(&["status", "--data", &node], ""), 1);
    let back = join("");
    done(&back, 0);
    assert!(back.stdout.contains(&linked), "{}", back.stdout);
    let ran = host.longshore(&["run", "--", "true"], "");
    done(&ran, 0);

    let left = host.longshore(&["leave", "--yes", "--data", &node], "");
    done(&left, 0);
    assert!(!host.path("node").exists());
    let nodes = host.longshore(&["nodes", "-o", "json"], "");
    done(&nodes, 0);
    let nodes: serde_json::Value = serde_json::from_str(&nodes.stdout).expect("it is JSON");
    let there = nodes.as_array().expect("a list").iter();
    let alive = there.filter(|node| node["state"] == "ALIVE").count();
    assert_eq!(alive, 0, "{nodes}");
}
