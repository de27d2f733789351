//! A secret is nowhere but in the page's own field, and in what its form sends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pagebox::grpc::v1::{PromptOptions, StepOutcome};

use super::{answer, prompt, secret, secrets, steps, task, world};
use crate::client::fields;

#[tokio::test]
async fn a_secret_is_found_nowhere_else() {
    let world = world();
    // The page that follows shows it in its text, title, fields, URL, and in other spellings.
    let value = "purple otter/+lantern&staple";
    let spellings = [
        value.to_owned(),
        "purple+otter".to_owned(),
        "purple%20otter".to_owned(),
        STANDARD.encode(value),
    ];
    for model in [world.model("planner"), world.anthropic("planner")] {
        let session = world.open("/login").await;
        let options = PromptOptions {
            secrets: secrets(&[("password", secret(value, &[]))]),
            ..task(
                &session,
                model,
                "Fill \"Email\" with \"ada\"\nFill \"Password\" with \"{{password}}\"\n\
                 Fill \"Hint\" with \"my {{password}}!\"\nClick \"Log in\"\n\
                 Run \"snapshot -u\"\nRun \"get url\"\nRun \"get title\"\nTell me the line with \"Signed in\"",
            )
        };
        let reply = answer(&session, options).await;
        assert_eq!(reply.output, "Signed in as ada, with {{password}}.");
        assert!(
            steps(&reply).contains(&("snapshot -u", StepOutcome::Done)),
            "{reply:#?}"
        );
        assert!(world.pages.sent().contains(&format!("password={value}")));
        assert!(world.pages.sent().contains(&format!("hint=my {value}!")));
        let told = format!("{reply:#?}");
        assert!(told.contains("{{password}}"), "{told}");
        for spelling in &spellings {
            assert!(!told.contains(spelling.as_str()), "{spelling}: {told}");
        }
        let kept = "{ set; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; \
                    grep -rh 'purple otter/[+]lantern' /tmp /workspace ~; } 2>/dev/null \
                    | grep -ac 'purple otter/[+]lantern' || true";
        assert_eq!(session.bash(kept).await, "0", "it is left in the session");
        session.stop().await;
    }
    let stored = std::process::Command::new("grep")
        .args(["-rlaF", value])
        .arg(world.daemon.data_dir())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&stored.stdout), "");
    for request in world.models.requests() {
        for spelling in &spellings {
            assert!(
                !request.contains(spelling.as_str()),
                "{spelling}: {request}"
            );
        }
    }
    let log = world.daemon.log();
    assert!(log.contains("prompt"), "the log is on");
    for spelling in &spellings {
        assert!(!log.contains(spelling.as_str()), "{spelling} is in the log");
    }
}

#[tokio::test]
async fn a_secret_is_written_on_its_domains_only() {
    let world = world();
    let session = world.open("/login").await;
    let fill = "Fill \"Password\" with \"{{password}}\"";
    let with = |domains: &[&str], prompt: &str| PromptOptions {
        secrets: secrets(&[("password", secret("correct horse", domains))]),
        ..task(&session, world.model("planner"), prompt)
    };
    let reply = answer(&session, with(&["bank.test"], fill)).await;
    assert!(
        reply.output.starts_with("I was refused: fill"),
        "{reply:#?}"
    );
    assert!(
        reply.steps[0]
            .output
            .contains("may not be used on localhost"),
        "{reply:#?}"
    );
    let field = "await page.inputValue('[name=password]')";
    assert_eq!(session.node(field).await, "");
    // Not in a URL, not as what to look for.
    for run in [
        "Open \"/?p={{password}}\"",
        "Run \"find text {{password}} click\"",
        "Press \"{{password}}\"",
    ] {
        let reply = answer(&session, with(&["localhost"], run)).await;
        assert!(
            reply.output.starts_with("I was refused:"),
            "{run}: {reply:#?}"
        );
    }
    let reply = answer(&session, with(&["localhost"], fill)).await;
    assert_eq!(reply.output, "It is done.", "{reply:#?}");
    assert_eq!(session.node(field).await, "correct horse");
    session.stop().await;
}

#[tokio::test]
async fn a_frame_of_another_site_gets_no_secret() {
    let world = world();
    let session = world.open("/framed").await;
    let options = PromptOptions {
        secrets: secrets(&[("password", secret("correct horse", &["localhost"]))]),
        ..task(
            &session,
            world.model("planner"),
            "Fill \"Password\" with \"{{password}}\"",
        )
    };
    let reply = answer(&session, options).await;
    let first = &reply.steps[0];
    if first.command.starts_with("fill") {
        assert_eq!(first.outcome(), StepOutcome::Refused, "{reply:#?}");
        assert!(first.output.contains("frame of another site"), "{reply:#?}");
    } else {
        // Its field is not in the snapshot, so it was waited for.
        assert!(reply.output.contains("There is no"), "{reply:#?}");
    }
    let inner = "await page.frames()[1].inputValue('[name=stolen]')";
    assert_eq!(session.node(inner).await, "");
    session.stop().await;
}

#[tokio::test]
async fn no_picture_is_taken_once_a_secret_may_be_seen() {
    let world = world();
    let session = world.open("/login").await;
    for (prompt, outcome) in [
        ("Look at the page", StepOutcome::Done),
        (
            "Fill \"Hint\" with \"{{password}}\"\nLook at the page",
            StepOutcome::Refused,
        ),
    ] {
        let options = PromptOptions {
            secrets: secrets(&[("password", secret("correct horse", &[]))]),
            ..task(&session, world.model("planner"), prompt)
        };
        let reply = answer(&session, options).await;
        assert_eq!(
            steps(&reply).last(),
            Some(&("screenshot", outcome)),
            "{reply:#?}"
        );
    }
    session.stop().await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_kept_is_refused() {
    let world = world();
    let session = world.open("/login").await;
    for (name, value, domain, field) in [
        ("password", "ab", "a.test", "options.secrets.password.value"),
        (
            "password",
            "-correct",
            "a.test",
            "options.secrets.password.value",
        ),
        (
            "password",
            "two\nlines",
            "a.test",
            "options.secrets.password.value",
        ),
        (
            "password",
            "correct",
            "co.uk",
            "options.secrets.password.domains[0]",
        ),
        ("pass word", "correct", "a.test", "options.secrets"),
    ] {
        let options = PromptOptions {
            secrets: secrets(&[(name, secret(value, &[domain]))]),
            ..task(&session, world.model("planner"), "Go")
        };
        let refused = prompt(&session, options).await.unwrap_err();
        assert_eq!(fields(&refused), [field]);
        assert!(!refused.message().contains(value), "{refused}");
    }
    session.stop().await;
}
