//! Layers, sources, refusals and the files of `config/`.

use std::{fs, path::Path};

use event_sourcing_actors::Limits;
use tempfile::TempDir;

use super::{schema, *};

mod access;
mod sagas;

const NO_VARIABLES: [(&str, &str); 0] = [];

fn variables<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn load<const N: usize>(files: &[(&str, &str)], pairs: [(&str, &str); N]) -> Result<Settings, SettingsError> {
    let folder = folder(files);
    let config_dir = Some(folder.path().to_owned());
    Settings::load(Source { config_dir, environment: variables(pairs), flags: Flags::default() })
}

fn refusal<const N: usize>(files: &[(&str, &str)], pairs: [(&str, &str); N]) -> String {
    load(files, pairs).unwrap_err().to_string()
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

fn shipped() -> Settings {
    let config_dir = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("config"));
    Settings::load(Source { config_dir, ..Source::default() }).unwrap()
}

fn values(settings: &Settings) -> Vec<(String, serde_json::Value)> {
    settings.explain().into_iter().map(|setting| (setting.key, setting.value)).collect()
}

#[test]
fn shipped_files_hold_every_key_with_its_default() {
    assert_eq!(values(&shipped()), values(&Settings::default()));
    for setting in shipped().explain() {
        let is_written = setting.source.ends_with(".yaml") || setting.value == serde_json::json!({});
        assert!(is_written, "{} is not in the shipped files", setting.key);
    }
    let event_store =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/event_store.yaml")).unwrap();
    assert!(event_store.contains("\n  aggregates: {}\n"), "the one key that has no leaf");
}

#[test]
fn each_key_of_the_shipped_files_has_a_comment_right_above() {
    for (name, _) in schema::FILES {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            let is_key = pair[1].starts_with("  ") && !pair[1].trim_start().starts_with('#');
            assert!(!is_key || pair[0].trim_start().starts_with("# "), "{name}: {:?} has no comment", pair[1]);
        }
    }
}

#[test]
fn every_number_has_a_range_and_every_default_lies_in_it() {
    let settings = Settings::default();
    let bounds = settings.bounds();
    for (key, _) in values(&settings).iter().filter(|(_, value)| value.is_number()) {
        assert!(bounds.iter().any(|bound| bound.key == *key), "{key} has no range");
    }
    settings.validate().unwrap();
}

#[test]
fn defaults_are_the_defaults_of_the_runtime() {
    assert_eq!(Settings::default().limits(), Limits::default());
}

#[test]
fn limits_follow_the_settings() {
    let yaml = "commands: {deadline_ms: 7, in_flight_max: 8, per_aggregate_max: 9, idempotency_retention_h: 2}\n\
                aggregates: {idle_ms: 10, live_max: 11, parked_ms: 12}\nhttp: {drain_ms: 13}\n";
    let limits = load(&[("cqrs.yaml", yaml)], NO_VARIABLES).unwrap().limits();
    assert_eq!(limits.command_deadline, Duration::from_millis(7));
    assert_eq!((limits.commands_in_flight_max, limits.commands_per_aggregate_max), (8, 9));
    assert_eq!(limits.key_retention, Duration::from_secs(7_200));
    assert_eq!((limits.aggregate_idle, limits.live_aggregates_max), (Duration::from_millis(10), 11));
    assert_eq!((limits.parked, limits.drain), (Duration::from_millis(12), Duration::from_millis(13)));
}

#[test]
fn no_folder_no_variable_and_no_flag_give_the_defaults() {
    let settings = load(&[], NO_VARIABLES).unwrap();
    assert_eq!(settings, Settings::default());
    assert!(settings.explain().iter().all(|setting| setting.source == "default"));
}

#[test]
fn flags_beat_variables_beat_files_beat_defaults() {
    let folder = folder(&[
        ("event_store.yaml", "event_store: {snapshot_frequency: 2, connect_retry_s: 2, batch_events_max: 2}"),
        ("cqrs.yaml", "log: {level: warn}"),
    ]);
    let source = Source {
        config_dir: Some(folder.path().to_owned()),
        environment: variables([("SNAPSHOT_FREQUENCY", "3"), ("ES__EVENT_STORE__CONNECT_RETRY_S", "3")]),
        flags: Flags { snapshot_frequency: Some("4".to_owned()), ..Flags::default() },
    };
    let settings = Settings::load(source).unwrap();
    let store = &settings.event_store;
    assert_eq!((store.snapshot_frequency, store.connect_retry_s, store.batch_events_max), (4, 3, 2));
    assert_eq!((settings.log.level, store.pool_connections_max), (LogLevel::Warn, 10));

    let origin = |key: &str| settings.explain().into_iter().find(|setting| setting.key == key).unwrap().source;
    assert_eq!(origin("event_store.snapshot_frequency"), "flag --snapshot-frequency");
    assert_eq!(origin("event_store.connect_retry_s"), "environment ES__EVENT_STORE__CONNECT_RETRY_S");
    let file = format!("file {}", folder.path().join("event_store.yaml").display());
    assert_eq!(origin("event_store.batch_events_max"), file);
    assert_eq!(origin("event_store.pool_connections_max"), "default");
}

#[test]
fn the_names_of_the_specification_are_read() {
    let settings = load(
        &[],
        [
            ("DATABASE_URL", "postgresql://user:pass@db/eventstore"),
            ("REDIS_URL", "redis://redis:6379"),
            ("LOG_LEVEL", "INFO"),
            ("SNAPSHOT_FREQUENCY", "100"),
            ("BIND_ADDRESS", "0.0.0.0:8000"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    let Database::Postgres { url } = &settings.event_store.database_url else { panic!("{settings:?}") };
    assert_eq!(url.expose(), "postgresql://user:pass@db/eventstore");
    assert_eq!(settings.cache.redis_url.as_ref().map(SecretUrl::expose), Some("redis://redis:6379"));
    assert_eq!((settings.log.level, settings.event_store.snapshot_frequency), (LogLevel::Info, 100));
    assert_eq!(settings.http.bind_address.to_string(), "0.0.0.0:8000");
}

#[test]
fn empty_variables_count_as_absent_and_line_ends_of_secret_files_are_cut() {
    let pairs = [("REDIS_URL", ""), ("SNAPSHOT_FREQUENCY", " "), ("DATABASE_URL", "memory:\n"), ("CONFIG_DIR", "")];
    let settings = load(&[], pairs).unwrap();
    assert_eq!(settings.cache.redis_url, None);
    assert_eq!(settings.event_store.snapshot_frequency, 100);
    assert_eq!(settings.event_store.database_url, Database::Memory);
}

#[test]
fn a_named_folder_must_exist() {
    let missing = PathBuf::from("no/such/folder");
    let by_flag = Settings::load(Source { config_dir: Some(missing), ..Source::default() }).unwrap_err();
    assert_says(&by_flag.to_string(), &["no/such/folder does not exist", "flag --config-dir"]);
    let environment = variables([("CONFIG_DIR", "no/such/folder")]);
    let by_variable = Settings::load(Source { environment, ..Source::default() }).unwrap_err();
    assert_says(&by_variable.to_string(), &["no/such/folder does not exist", "environment CONFIG_DIR"]);
}

#[test]
fn unknown_key_of_a_file_names_key_file_and_nearest_name() {
    let message = refusal(&[("cqrs.yaml", "commands: {deadline: 5}")], NO_VARIABLES);
    assert_says(&message, &["\"commands.deadline\"", "cqrs.yaml", "did you mean \"commands.deadline_ms\"?"]);
    let message = refusal(&[("cqrs.yaml", "comands: {deadline_ms: 5}")], NO_VARIABLES);
    assert_says(&message, &["\"comands\"", "did you mean \"commands\"?"]);
    let message = refusal(&[("cqrs.yaml", "http: {deadline_ms: 5}")], NO_VARIABLES);
    assert_says(&message, &["did you mean \"commands.deadline_ms\"?"]);
    let message = refusal(&[("cqrs.yaml", "log: {xyzzy: 5}")], NO_VARIABLES);
    assert_says(&message, &["known here: format, level"]);
    let message = refusal(&[("cqrs.yaml", "log: {'*': 5}")], NO_VARIABLES);
    assert_says(&message, &["unknown setting \"log.*\""]);
}

#[test]
fn unknown_variable_names_the_variable_and_the_nearest_one() {
    let message = refusal(&[], [("ES__COMMANDS__DEADLINE", "5")]);
    assert_says(&message, &["environment ES__COMMANDS__DEADLINE", "did you mean ES__COMMANDS__DEADLINE_MS?"]);
    for odd in ["ES__", "ES__COMMANDS__", "ES____DEADLINE_MS", "ES__COMMANDS__DEADLINE_MS__X"] {
        assert_says(&refusal(&[], [(odd, "5")]), &[odd]);
    }
    assert_says(&refusal(&[], [("ES__COMANDS__X", "")]), &["unknown setting"]);
}

#[test]
fn a_section_in_the_wrong_file_is_sent_to_its_own() {
    for (name, _) in schema::FILES {
        for (right, sections) in schema::FILES.iter().filter(|(right, _)| *right != name) {
            for section in *sections {
                let message = refusal(&[(name, &format!("{section}: {{}}"))], NO_VARIABLES);
                assert_says(&message, &[section, name, &format!("move it to {right}")]);
            }
        }
    }
}

#[test]
fn wrong_types_name_key_source_and_what_is_expected() {
    let expect = |yaml: &str, parts: &[&str]| assert_says(&refusal(&[("cqrs.yaml", yaml)], NO_VARIABLES), parts);
    expect("commands: {deadline_ms: soon}", &["\"commands.deadline_ms\"", "cqrs.yaml", "whole number", "\"soon\""]);
    expect("commands: {deadline_ms: 1000.7}", &["whole number", "the fraction 1000.7"]);
    expect("commands: {deadline_ms: 1e3}", &["whole number", "the fraction 1000.0"]);
    expect("commands: {deadline_ms: yes}", &["whole number"]);
    expect("commands: {deadline_ms: true}", &["whole number", "true"]);
    expect("commands: {deadline_ms: -1}", &["whole number", "-1"]);
    expect("commands: {deadline_ms: '5000'}", &["whole number"]);
    expect("commands: {deadline_ms: [1]}", &["whole number", "a list"]);
    expect("commands: {deadline_ms: }", &["whole number", "nothing"]);
    expect("commands: {deadline_ms: 99999999999999999999}", &["whole number"]);
    expect("commands: 5", &["\"commands\"", "must be a section of", "deadline_ms"]);
    expect("log: {level: loud}", &["\"log.level\"", "cqrs.yaml", "off, error, warn, info, debug and trace", "loud"]);
    expect("log: {format: xml}", &["\"log.format\"", "`auto`, `json`, `text`"]);
    expect("http: {bind_address: 'localhost'}", &["\"http.bind_address\"", "IP address or a host name, and a port"]);
    expect("http: {bind_address: 8000}", &["must be text"]);
}

#[test]
fn wrong_values_of_variables_name_the_variable() {
    let message = refusal(&[], [("SNAPSHOT_FREQUENCY", "often")]);
    assert_says(&message, &["\"event_store.snapshot_frequency\"", "environment SNAPSHOT_FREQUENCY", "whole number"]);
    assert_says(&refusal(&[], [("SNAPSHOT_FREQUENCY", "1000.7")]), &["whole number"]);
    assert_says(&refusal(&[], [("SNAPSHOT_FREQUENCY", "5000000000")]), &["environment SNAPSHOT_FREQUENCY"]);
    assert_says(&refusal(&[], [("ES__COMMANDS", "5")]), &["environment ES__COMMANDS", "must be a section"]);
    assert_says(&refusal(&[], [("REDIS_URL", "http://redis")]), &["environment REDIS_URL", "redis://host:port"]);
    assert_says(&refusal(&[], [("LOG_LEVEL", "loud")]), &["environment LOG_LEVEL", "must be one of"]);
}

#[test]
fn values_out_of_range_name_range_and_source() {
    let message = refusal(&[], [("SNAPSHOT_FREQUENCY", "0")]);
    assert_says(&message, &["environment SNAPSHOT_FREQUENCY", "must be 1 to 1000000, not 0"]);
    let yaml = "event_store: {aggregates: {order: {snapshot_frequency: 0}}}";
    let message = refusal(&[("event_store.yaml", yaml)], NO_VARIABLES);
    assert_says(&message, &["event_store.aggregates.order.snapshot_frequency", "event_store.yaml", "not 0"]);
}

#[test]
fn single_aggregate_types_have_their_own_snapshot_frequency() {
    let yaml = "event_store: {aggregates: {order: {snapshot_frequency: 7}}}";
    let pairs = [("ES__EVENT_STORE__AGGREGATES__ACCOUNT__SNAPSHOT_FREQUENCY", "8")];
    let settings = load(&[("event_store.yaml", yaml)], pairs).unwrap();
    let frequency = |name| settings.event_store.snapshot_frequency_of(name);
    assert_eq!((frequency("order"), frequency("account"), frequency("user")), (7, 8, 100));
    let keys: Vec<String> = settings.explain().into_iter().map(|setting| setting.key).collect();
    assert!(keys.contains(&"event_store.aggregates.order.snapshot_frequency".to_owned()), "{keys:?}");

    let yaml = "event_store: {aggregates: {order: {snapshots: 7}}}";
    assert_says(&refusal(&[("event_store.yaml", yaml)], NO_VARIABLES), &["aggregates.order.snapshots"]);
    let yaml = "event_store: {aggregates: {order: {}, user: }}";
    assert_eq!(
        load(&[("event_store.yaml", yaml)], NO_VARIABLES).unwrap().event_store.snapshot_frequency_of("order"),
        100
    );
}

#[test]
fn broken_files_are_refused_by_name() {
    let broken = |yaml: &str| refusal(&[("cqrs.yaml", yaml)], NO_VARIABLES);
    assert_says(&broken("commands: {"), &["cqrs.yaml is not valid", "line 2"]);
    assert_says(
        &broken("log: {level: info}\nlog: {level: warn}"),
        &["cqrs.yaml is not valid: \"log\" occurs twice", "line 2"],
    );
    assert_says(&broken("- 1"), &["cqrs.yaml is not valid: it must hold sections, such as `commands:`"]);
    assert_says(&refusal(&[("cqrs.yml", "")], NO_VARIABLES), &["cqrs.yml is not read", "rename it to cqrs.yaml"]);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("cqrs.yaml")).unwrap();
    let config_dir = Some(folder.path().to_owned());
    let error = Settings::load(Source { config_dir, ..Source::default() }).unwrap_err();
    assert!(matches!(error, SettingsError::Unreadable { .. }), "{error}");
}

#[test]
fn files_and_sections_without_members_change_nothing() {
    for yaml in ["", "# nothing\n", "commands:\n  # deadline_ms: 1\n", "commands: {}\nlog:\n", "---\n"] {
        let settings = load(&[("cqrs.yaml", yaml)], NO_VARIABLES).unwrap();
        assert_eq!(settings, Settings::default(), "{yaml:?}");
    }
}

#[test]
fn two_variables_that_disagree_are_refused() {
    let long = "ES__EVENT_STORE__DATABASE_URL";
    let message = refusal(&[], [("DATABASE_URL", "memory:"), (long, "sqlite://a.db")]);
    assert_says(&message, &["event_store.database_url", "DATABASE_URL", long]);
    load(&[], [("DATABASE_URL", "memory:"), (long, "memory:")]).unwrap();
    load(&[], [("DATABASE_URL", ""), (long, "memory:")]).unwrap();
}

#[test]
fn variables_of_others_are_left_alone_and_ours_must_be_text() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};
    let broken = || OsString::from_vec(vec![0xff]);
    let environment = vec![("LESSCHARSET".into(), broken()), ("ES__LOG__LEVEL".into(), "warn".into())];
    let found = layers::only_settings(environment.into_iter()).unwrap();
    assert_eq!(found, variables([("ES__LOG__LEVEL", "warn")]));
    let error = layers::only_settings([("DATABASE_URL".into(), broken())].into_iter()).unwrap_err();
    assert_says(&error.to_string(), &["DATABASE_URL"]);
}

#[test]
fn passwords_are_never_shown() {
    let masked = |url: &str| format!("{:?} {}", SecretUrl::new(url), SecretUrl::new(url));
    for url in [
        "postgresql://user:hunter2@host/db",
        "postgresql://user:hun@hunter2@host/db",
        "redis://:hunter2@host",
        "postgresql://user:a/hunter2?x#y@host/db",
        "postgresql://host/db?user=u&password=hunter2&sslmode=require",
        "postgresql://host/db?sslpassword=hunter2",
        "postgresql://host/db?p%61ssword=hunter2",
        "hunter2",
    ] {
        assert!(!masked(url).contains("hunter2"), "{}", masked(url));
    }
    assert_eq!(
        SecretUrl::new("postgresql://user:x@host:5432/db?a=b").to_string(),
        "postgresql://user:***@host:5432/db?a=b"
    );
    assert_eq!(SecretUrl::new("redis://redis:6379").to_string(), "redis://redis:6379");

    let pairs = [("DATABASE_URL", "postgres://user:hunter2@host/db"), ("REDIS_URL", "redis://:hunter2@host")];
    let settings = load(&[], pairs).unwrap();
    let shown = format!("{settings:?} {:?}", settings.explain());
    assert!(!shown.contains("hunter2") && shown.contains("postgres://user:***@host/db"), "{shown}");
    let message = refusal(&[("event_store.yaml", "event_store: {database_url: 4711}")], NO_VARIABLES);
    assert!(!message.contains("4711"), "{message}");
}

#[test]
fn log_levels_are_read_in_any_case() {
    for (text, level) in [("INFO", LogLevel::Info), ("Debug", LogLevel::Debug), ("WARNING", LogLevel::Warn)] {
        assert_eq!(load(&[], [("LOG_LEVEL", text)]).unwrap().log.level, level);
    }
    for level in LogLevel::ALL {
        assert_eq!(level.to_string().parse(), Ok(level));
    }
}

#[test]
fn single_projections_and_query_types_have_settings_of_their_own() {
    let projections = "projections:\n  batch_events_max: 7\n  definitions:\n    inventory: {enabled: false}\n    \
                       user_activity: {batch_events_max: 9, consistency: eventual}\n";
    let cqrs = "queries: {types: {GetStock: {timeout_ms: 9, role: auditor}, GetUser: {role: }}}";
    let pairs =
        [("ES__PROJECTIONS__DEFINITIONS__ORDER_SUMMARY__ENABLED", "False"), ("ES__PROJECTIONS__FOLLOW", "true")];
    let settings = load(&[("projections.yaml", projections), ("cqrs.yaml", cqrs)], pairs).unwrap();
    let of = |name| {
        let projections = &settings.projections;
        (projections.is_enabled(name), projections.batch_events_max_of(name), projections.consistency_of(name))
    };
    assert_eq!(of("account_balance"), (true, 7, Consistency::Latest));
    assert_eq!(of("inventory"), (false, 7, Consistency::Latest));
    assert_eq!(of("order_summary"), (false, 7, Consistency::Latest));
    assert_eq!(of("user_activity"), (true, 9, Consistency::Eventual));
    let (queries, role) = (&settings.queries, |name| settings.queries.types[name].role);
    assert_eq!((queries.timeout_ms_of("GetStock"), queries.timeout_ms_of("GetUser")), (9, 5_000));
    assert_eq!((role("GetStock"), role("GetUser")), (Some(Role::Auditor), None));
}

#[test]
fn truth_values_and_choices_are_held_to_their_type() {
    let expect = |file, yaml: &str, parts: &[&str]| assert_says(&refusal(&[(file, yaml)], NO_VARIABLES), parts);
    for wrong in ["5", "yes", "'true'", "", "[true]"] {
        expect("projections.yaml", &format!("cache: {{enabled: {wrong}}}"), &["\"cache.enabled\"", "true or false"]);
    }
    let message = refusal(&[], [("ES__CACHE__ENABLED", "on")]);
    assert_says(&message, &["environment ES__CACHE__ENABLED", "must be true or false, not the text \"on\""]);
    assert!(!load(&[], [("ES__CACHE__ENABLED", " FALSE\n")]).unwrap().cache.enabled);
    let one = "projections: {definitions: {inventory: {consistency: strong}}}";
    expect("projections.yaml", one, &["projections.definitions.inventory.consistency", "`latest` or `eventual`"]);
    let role = "queries: {types: {GetStock: {role: boss}}}";
    expect("cqrs.yaml", role, &["queries.types.GetStock.role", "cqrs.yaml", "`reader`"]);
    expect("cqrs.yaml", "queries: {types: {GetStock: {timeout: 5}}}", &["did you mean \"queries.types.GetStock.time"]);
    let batch = "projections: {definitions: {inventory: {batch_events_max: 0}}}";
    expect("projections.yaml", batch, &["definitions.inventory.batch_events_max", "must be 1 to 100000, not 0"]);
    let models = load(&[], [("ES__READ_MODELS__DATABASE_URL", "memory:")]).unwrap().read_models;
    assert_eq!(models.database_url, Some(Database::Memory));
    expect(
        "projections.yaml",
        "read_models: {database_url: 'mysql://u:pw@h'}",
        &["read_models.database_url", "mysql://"],
    );
}

#[test]
fn declarations_come_as_they_are_written_with_their_lines() {
    let yaml = "# comment\nprojections:\n  poll_ms: 300\n  declarations:\n    view:\n      on:\n        \
                Sent.Out: {key: /Id,\n          fields: {n: count, m: {set: {value: [1, 2.5, true, ~, x]}}}}\n";
    let settings = load(&[("projections.yaml", yaml)], NO_VARIABLES).unwrap();
    assert_eq!(settings.projections.poll_ms, 300);
    let tree = serde_json::json!({"on": {"Sent.Out": {"key": "/Id",
        "fields": {"n": "count", "m": {"set": {"value": [1, 2.5, true, null, "x"]}}}}}});
    assert_eq!(settings.projections.declarations, BTreeMap::from([("view".to_owned(), tree)]));
    for (pointer, line) in [
        ("", 4),
        ("/view", 5),
        ("/view/on/Sent.Out", 7),
        ("/view/on/Sent.Out/key", 7),
        ("/view/on/Sent.Out/fields/m/set/value/1", 8),
        ("/view/on/Sent.Out/fields/none/of/these", 8),
        ("/other", 4),
    ] {
        let place = settings.declaration_place(pointer);
        assert!(place.starts_with("file ") && place.ends_with(&format!("projections.yaml, line {line}")), "{place}");
    }
    assert_eq!(Settings::default().declaration_place("/view/on"), "settings");
    let explained = settings.explain();
    let leaf = explained.iter().find(|one| one.key.ends_with("declarations.view.on.Sent.Out.key")).unwrap();
    assert!(leaf.source.ends_with("projections.yaml"), "{leaf:?}");
}

#[test]
fn declarations_stand_in_their_file_only_and_are_a_section() {
    let message = refusal(&[], [("ES__PROJECTIONS__DECLARATIONS__VIEW__ON", "x")]);
    assert_says(&message, &["ES__PROJECTIONS__DECLARATIONS__VIEW__ON", "only be declared in projections.yaml"]);
    for wrong in ["5", "[view]", "text"] {
        let message =
            refusal(&[("projections.yaml", &format!("projections: {{declarations: {wrong}}}"))], NO_VARIABLES);
        assert_says(&message, &["\"projections.declarations\"", "projections.yaml", "must be a section"]);
    }
    for empty in ["", "{}", "~"] {
        let yaml = format!("projections: {{declarations: {empty}}}");
        assert!(load(&[("projections.yaml", &yaml)], NO_VARIABLES).unwrap().projections.declarations.is_empty());
    }
}

#[test]
fn an_open_door_is_warned_of() {
    let warnings = |address| load(&[], [("BIND_ADDRESS", address)]).unwrap().warnings().len();
    assert_eq!((warnings("127.0.0.1:8000"), warnings("[::1]:8000")), (0, 0));
    assert_eq!((warnings("0.0.0.0:8000"), warnings("[::]:8000"), warnings("10.0.0.1:8000")), (1, 1, 1));
}

#[test]
fn evidence_lies_beside_the_database_file_unless_told_otherwise() {
    let directory = |pairs: [(&str, &str); 2]| load(&[], pairs).unwrap().integrity_directory();
    assert_eq!(Settings::default().integrity_directory(), PathBuf::from("data"));
    assert_eq!(directory([("DATABASE_URL", "sqlite:///a/b.db"), ("LOG_LEVEL", "")]), PathBuf::from("/a"));
    assert_eq!(directory([("DATABASE_URL", "memory:"), ("LOG_LEVEL", "")]), PathBuf::from("data"));
    let pairs = [("DATABASE_URL", "sqlite:///a/b.db"), ("ES__INTEGRITY__DIRECTORY", "/safe")];
    assert_eq!(directory(pairs), PathBuf::from("/safe"));
}
