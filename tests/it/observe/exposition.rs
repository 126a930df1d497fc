//! The text that Prometheus reads, taken apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::server::Server;

/// One metric with all of its series.
#[derive(Debug, Default)]
pub struct Family {
    pub help: String,
    pub kind: String,
    /// Names of labels, but for `le`.
    pub labels: BTreeSet<String>,
    /// Each series as it stands, up to its value, and the value.
    pub series: Vec<(String, f64)>,
}

/// Every family of one scrape by its name.
pub fn scrape(server: &Server) -> BTreeMap<String, Family> {
    let (status, text) = server.get("/metrics");
    assert_eq!(status, 200);
    parse(&text)
}

pub fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            current = name.to_owned();
            families.entry(current.clone()).or_default().kind = kind.to_owned();
        } else {
            let family = families.get_mut(&current).expect("samples follow their type");
            let (series, value) = line.rsplit_once(' ').unwrap();
            family.labels.extend(label_names(series));
            family.series.push((series.to_owned(), value.parse().unwrap()));
        }
    }
    families
}

fn label_names(series: &str) -> Vec<String> {
    let Some((_, labels)) = series.split_once('{') else { return Vec::new() };
    let names = labels.split("=\"").filter_map(|part| part.rsplit(['{', ',', '"']).next());
    let mut names: Vec<String> = names.map(ToOwned::to_owned).collect();
    names.pop(); // what follows the last value
    names.retain(|name| name != "le");
    names
}

/// The value of a series; `None` if it is not there.
pub fn value(families: &BTreeMap<String, Family>, series: &str) -> Option<f64> {
    families.values().flat_map(|family| &family.series).find(|(name, _)| name == series).map(|(_, value)| *value)
}
