//! Image, compose file and manifests, held against the program: what they copy exists, what they set is known, and they
//! agree on ports, users and deadlines.

use std::{collections::BTreeMap, path::Path};

use event_sourcing_cqrs::settings::{Flags, Settings, Source};
use yaml_rust2::{Yaml, YamlLoader};

const DOCKERFILE: &str = include_str!("../../Dockerfile");
const COMPOSE: &str = include_str!("../../docker-compose.yml");
const KUBERNETES: &str = include_str!("../../deploy/kubernetes/app.yaml");
const SERVICE: &str = include_str!("../../deploy/kubernetes/service.yaml");
const BUDGET: &str = include_str!("../../deploy/kubernetes/disruption-budget.yaml");
const PROMETHEUS: &str = include_str!("../../deploy/prometheus/prometheus.yml");

/// After grace and drain: the end of the store, and the last spans. As `src/shutdown.rs` and `src/telemetry/otlp.rs` say.
const AFTER_DRAIN_S: u64 = 4 + 2;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(text: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(text).unwrap()
}

/// The instructions of the Dockerfile, lines joined, without comments.
fn instructions() -> Vec<(String, String)> {
    let text: Vec<&str> = DOCKERFILE.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = text.join("\n").replace("\\\n", " ");
    let split = joined.lines().filter_map(|line| line.trim().split_once(' '));
    split.map(|(word, rest)| (word.to_owned(), rest.trim().to_owned())).collect()
}

fn of<'a>(instructions: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    instructions.iter().filter(|(known, _)| known == word).map(|(_, rest)| rest.as_str()).collect()
}

/// The variables that the image sets.
fn image_environment() -> BTreeMap<String, String> {
    let instructions = instructions();
    let last_stage = instructions.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let set = of(&instructions[last_stage..], "ENV").into_iter().flat_map(str::split_whitespace);
    set.map(|pair| pair.split_once('=').unwrap()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The settings of the image with further variables; an unknown one is refused.
fn settings(more: &BTreeMap<String, String>) -> Settings {
    let mut environment = image_environment();
    environment.extend(more.clone());
    let environment = environment.into_iter().collect();
    Settings::load(Source { config_dir: Some(root().join("config")), environment, flags: Flags::default() }).unwrap()
}

fn compose_environment() -> BTreeMap<String, String> {
    let compose = &yaml(COMPOSE)[0];
    let set = compose["services"]["app"]["environment"].as_vec().unwrap().iter();
    set.map(|pair| pair.as_str().unwrap().split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The pod's specification.
fn pod() -> Yaml {
    yaml(KUBERNETES)[0]["spec"]["template"]["spec"].clone()
}

/// Those from secrets as a URL of their kind.
fn kubernetes_environment() -> BTreeMap<String, String> {
    let pod = pod();
    let set = pod["containers"][0]["env"].as_vec().unwrap().iter();
    set.map(|one| {
        let name = one["name"].as_str().unwrap().to_owned();
        let value = one["value"].as_str().map_or_else(
            || if name == "REDIS_URL" { "redis://r:6379".to_owned() } else { "postgres://u@p/d".to_owned() },
            ToOwned::to_owned,
        );
        assert!(one["value"].as_str().is_some() || !one["valueFrom"]["secretKeyRef"]["key"].is_badvalue(), "{name}");
        (name, value)
    })
    .collect()
}

#[test]
fn what_the_image_copies_is_there() {
    let instructions = instructions();
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    let copies: Vec<&str> = of(&instructions, "COPY");
    assert!(copies.len() >= 4, "{copies:?}");
    for copy in copies {
        let words: Vec<&str> = copy.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        let (_, sources) = words.split_last().unwrap();
        if copy.contains("--from=build") {
            // Made by the build under this folder.
            assert!(sources.iter().all(|source| source.starts_with("/image/app/")), "{copy}");
            continue;
        }
        for source in sources {
            assert!(root().join(source).exists(), "COPY {copy}");
            assert!(!ignored.lines().any(|line| line.trim() == *source), "{source} is in .dockerignore");
        }
    }
    // What the build embeds must not be ignored either.
    for needed in ["src", "actors", "migrations", "config", "Cargo.toml", "Cargo.lock"] {
        assert!(!ignored.lines().any(|line| line.trim().trim_end_matches('/') == needed), "{needed} is ignored");
    }
}

#[test]
fn every_variable_of_image_compose_file_and_manifest_is_a_known_setting() {
    let image = settings(&BTreeMap::new());
    assert_eq!(
        (image.http.bind_address.numbers().is_some_and(|all| all.ip().is_unspecified()), image.http.shutdown_grace_ms),
        (true, 5_000)
    );
    let compose = settings(&compose_environment());
    assert_eq!(compose.http.bind_address, image.http.bind_address);
    let kubernetes = settings(&kubernetes_environment());
    assert_eq!(kubernetes.http.bind_address, image.http.bind_address);
}

#[test]
#[should_panic(expected = "did you mean ES__HTTP__SHUTDOWN_GRACE_MS?")]
fn a_variable_that_is_no_setting_would_be_found() {
    settings(&BTreeMap::from([("ES__HTTP__SHUTDOWN_GRACE".to_owned(), "5000".to_owned())]));
}

#[test]
fn ports_agree() {
    let port = settings(&BTreeMap::new()).http.bind_address.port();
    assert_eq!(port, 8000);
    assert_eq!(of(&instructions(), "EXPOSE"), [port.to_string()]);
    let compose = &yaml(COMPOSE)[0];
    assert_eq!(compose["services"]["app"]["ports"][0].as_str(), Some(format!("{port}:{port}").as_str()));
    let pod = pod();
    let (container, port) = (&pod["containers"][0], i64::from(port));
    assert_eq!(container["ports"][0]["containerPort"].as_i64(), Some(port));
    let name = container["ports"][0]["name"].as_str();
    for service in yaml(SERVICE) {
        assert_eq!(
            (service["spec"]["ports"][0]["port"].as_i64(), service["spec"]["ports"][0]["targetPort"].as_str()),
            (Some(port), name)
        );
    }
    let scrape = &yaml(PROMETHEUS)[0]["scrape_configs"][0]["dns_sd_configs"][0];
    assert_eq!((scrape["port"].as_i64(), scrape["names"][0].as_str()), (Some(port), Some("app")));
}

#[test]
fn probes_ask_routes_that_there_are() {
    let pod = pod();
    for (probe, path) in
        [("livenessProbe", "/health/live"), ("readinessProbe", "/health/ready"), ("startupProbe", "/health/startup")]
    {
        let asked = &pod["containers"][0][probe]["httpGet"];
        assert_eq!((asked["path"].as_str(), asked["port"].as_str()), (Some(path), Some("http")));
        assert!(event_sourcing_cqrs::http::route_table().any(|(route, _)| route == path), "{path}");
    }
    let healthcheck = of(&instructions(), "HEALTHCHECK").join(" ");
    assert!(healthcheck.ends_with("[\"/usr/local/bin/event-sourcing-cqrs\", \"healthcheck\"]"), "{healthcheck}");
}

#[test]
fn whoever_stops_it_waits_longer_than_it_takes() {
    let needs = |settings: &Settings| {
        (settings.http.shutdown_grace_ms + settings.http.drain_ms).div_ceil(1_000) + AFTER_DRAIN_S
    };
    let pod = pod();
    let given = pod["terminationGracePeriodSeconds"].as_i64().unwrap().unsigned_abs();
    let kubernetes = settings(&kubernetes_environment());
    assert!(given > needs(&kubernetes), "{given} s");
    let compose = &yaml(COMPOSE)[0]["services"]["app"];
    let given: u64 = compose["stop_grace_period"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    assert!(given > needs(&settings(&compose_environment())), "{given} s");
    // The balancer must have noticed before the listener closes.
    let probe = &pod["containers"][0]["readinessProbe"];
    let notices = probe["periodSeconds"].as_i64().unwrap() * probe["failureThreshold"].as_i64().unwrap();
    assert!(kubernetes.http.shutdown_grace_ms > 1_000 * notices.unsigned_abs(), "{notices} s");
}

#[test]
fn it_runs_as_nobody_on_a_root_that_cannot_be_written() {
    let instructions = instructions();
    let user = of(&instructions, "USER").pop().unwrap().split(':').next().unwrap().to_owned();
    assert_ne!(user, "0");
    let (pod, id) = (pod(), user.parse::<i64>().ok());
    assert_eq!(pod["securityContext"]["runAsUser"].as_i64(), id);
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(container["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(container["capabilities"]["drop"][0].as_str(), Some("ALL"));
    let compose = &yaml(COMPOSE)[0]["services"]["app"];
    assert_eq!((compose["read_only"].as_bool(), compose["cap_drop"][0].as_str()), (Some(true), Some("ALL")));
    // The one folder that is written is a volume everywhere.
    assert_eq!(of(&instructions, "VOLUME"), ["/app/data"]);
    assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"].as_str(), Some("/app/data"));
    assert!(compose["volumes"][0].as_str().unwrap().ends_with(":/app/data"));
}

#[test]
fn replicas_have_one_master_key_from_outside_of_their_own_folders() {
    let (pod, settings) = (pod(), settings(&kubernetes_environment()));
    let file = settings.master_key_file(Some(uuid::Uuid::nil())).unwrap();
    let mounts = pod["containers"][0]["volumeMounts"].as_vec().unwrap().iter();
    let of_key = |mount: &&Yaml| mount["mountPath"].as_str().is_some_and(|path| file.starts_with(path));
    let mount = mounts.clone().find(of_key).unwrap_or_else(|| panic!("nothing is mounted for {}", file.display()));
    let volumes = pod["volumes"].as_vec().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    assert!(volume["secret"]["secretName"].as_str().is_some(), "each replica would have a key of its own: {volume:?}");
}

#[test]
fn selectors_meet_the_pods_and_one_replica_goes_at_a_time() {
    let set = &yaml(KUBERNETES)[0];
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(set["spec"]["replicas"].as_i64(), Some(3));
    let services = yaml(SERVICE);
    assert!(services.iter().all(|service| &service["spec"]["selector"] == labels));
    assert!(services.iter().any(|service| service["metadata"]["name"] == set["spec"]["serviceName"]));
    let budget = &yaml(BUDGET)[0]["spec"];
    assert_eq!((&budget["selector"]["matchLabels"], budget["maxUnavailable"].as_i64()), (labels, Some(1)));
}
