//! The layers: files, environment, flags; read one by one, then merged.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use config::{Config, FileFormat, Map, Source as _, Value, ValueKind};
use serde_json::Value as Json;

use super::{
    SettingsError,
    declarations::Declarations,
    schema::{FILES, Reader, defaults, schema},
};

pub(super) const DEFAULT: &str = "default";
const FOLDER: &str = "config";
const FOLDER_VARIABLE: &str = "CONFIG_DIR";
const PREFIX: &str = "ES__";

/// The settings with a name of their own: variable, flag, key.
const SHORT: [(&str, &str, &str); 5] = [
    ("DATABASE_URL", "--database-url", "event_store.database_url"),
    ("REDIS_URL", "--redis-url", "cache.redis_url"),
    ("LOG_LEVEL", "--log-level", "log.level"),
    ("SNAPSHOT_FREQUENCY", "--snapshot-frequency", "event_store.snapshot_frequency"),
    ("BIND_ADDRESS", "--bind-address", "http.bind_address"),
];

/// Everything settings are read from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// Folder of the YAML files; it must exist. Else the variable `CONFIG_DIR`, which must exist too, else `./config`,
    /// which need not.
    pub config_dir: Option<PathBuf>,
    /// The environment, for a process that of [`process_environment`]. Empty variables count as absent.
    pub environment: BTreeMap<String, String>,
    /// The flags of the command line.
    pub flags: Flags,
}

/// Flags of the command line that are settings, as written.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--database-url`.
    pub database_url: Option<String>,
    /// `--redis-url`.
    pub redis_url: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--snapshot-frequency`.
    pub snapshot_frequency: Option<String>,
    /// `--bind-address`.
    pub bind_address: Option<String>,
}

/// The variables of this process that are settings.
///
/// # Errors
/// [`SettingsError::NotText`] when such a variable is not UTF-8.
pub fn process_environment() -> Result<BTreeMap<String, String>, SettingsError> {
    only_settings(std::env::vars_os())
}

pub(super) fn only_settings(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, SettingsError> {
    let mut found = BTreeMap::new();
    for (name, value) in variables {
        let name = name.to_string_lossy().into_owned();
        if name != FOLDER_VARIABLE && !name.starts_with(PREFIX) && !SHORT.iter().any(|(short, ..)| *short == name) {
            continue;
        }
        match value.into_string() {
            Ok(value) => found.insert(name, value),
            Err(_) => return Err(SettingsError::NotText { variable: name }),
        };
    }
    Ok(found)
}

/// The values of one source, each with its origin.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// All layers as one.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) tree: Json,
    /// Where each leaf that is no default came from.
    pub(super) origins: BTreeMap<String, String>,
    /// File and line of each part of the declarations, by JSON pointer.
    pub(super) places: BTreeMap<String, String>,
}

/// Reads all layers.
pub(super) fn merge(source: Source) -> Result<Merged, SettingsError> {
    let schema = schema();
    let mut declared = Declarations::default();
    let mut layers = files(&schema, &source, &mut declared)?;
    layers.extend(environment(&schema, source.environment)?);
    layers.extend(flags(&schema, source.flags)?);
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let config = builder.build().map_err(|error| SettingsError::Invalid {
        key: String::new(),
        origin: DEFAULT.to_owned(),
        problem: error.to_string(),
    })?;
    let (mut tree, mut origins) = (defaults(), BTreeMap::new());
    overlay(String::new(), &mut tree, config.cache, &mut origins);
    origins.extend(declared.origins());
    tree["projections"]["declarations"] = declared.tree;
    Ok(Merged { tree, origins, places: declared.places })
}

fn overlay(key: String, tree: &mut Json, value: Value, origins: &mut BTreeMap<String, String>) {
    let origin = value.origin().map(str::to_owned);
    *tree = match value.kind {
        ValueKind::Table(members) => {
            if !tree.is_object() {
                *tree = Json::Object(serde_json::Map::new());
            }
            for (name, member) in members {
                let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                overlay(path, &mut tree[name.as_str()], member, origins);
            }
            return;
        }
        ValueKind::U64(number) => Json::from(number),
        ValueKind::Boolean(truth) => Json::from(truth),
        ValueKind::String(text) => Json::from(text),
        // Of texts only, says the schema.
        ValueKind::Array(items) => items.into_iter().filter_map(|item| item.into_string().ok()).collect(),
        // The schema lets nothing else through.
        _ => Json::Null,
    };
    origins.extend(origin.map(|origin| (key, origin)));
}

fn files(schema: &Json, source: &Source, declared: &mut Declarations) -> Result<Vec<Layer>, SettingsError> {
    let variable = source.environment.get(FOLDER_VARIABLE).filter(|value| !value.is_empty());
    let (folder, named_by) = match (&source.config_dir, variable) {
        (Some(folder), _) => (folder.clone(), Some("flag --config-dir".to_owned())),
        (None, Some(folder)) => (PathBuf::from(folder), Some(format!("environment {FOLDER_VARIABLE}"))),
        (None, None) => (PathBuf::from(FOLDER), None),
    };
    match named_by {
        Some(origin) if !folder.is_dir() => return Err(SettingsError::NoFolder { path: folder, origin }),
        _ => {}
    }
    let mut layers = Vec::new();
    for (name, sections) in FILES {
        if let Some(YamlFile { text, mut values }) = read_file(&folder, name)? {
            let path = folder.join(name);
            check_sections(&values, sections, &path)?;
            declared.take(&mut values, &text, &path)?;
            let reader = Reader { schema, origin: format!("file {}", path.display()), is_text: false };
            layers.push(Layer(reader.adopt(values)?));
        }
    }
    Ok(layers)
}

/// A file of the folder: as text, and as values.
struct YamlFile {
    text: String,
    values: Map<String, Value>,
}

fn read_file(folder: &Path, name: &str) -> Result<Option<YamlFile>, SettingsError> {
    let other = folder.join(name).with_extension("yml");
    if other.exists() {
        return Err(SettingsError::FileName { path: other, expected: name.to_owned() });
    }
    let path = folder.join(name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SettingsError::Unreadable { path, source }),
    };
    // The parser refuses a document without any value; here it changes nothing.
    if text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---") {
        return Ok(None);
    }
    match config::File::from_str(&text, FileFormat::Yaml).collect() {
        Ok(values) => Ok(Some(YamlFile { text, values })),
        Err(error) => Err(SettingsError::Syntax { path, problem: plain(&error.to_string()) }),
    }
}

/// What the parser says, without the names of its types.
fn plain(problem: &str) -> String {
    match problem.strip_prefix("String(").and_then(|rest| rest.split_once("): duplicated key in mapping")) {
        Some((key, place)) => format!("{key} occurs twice{place}"),
        None if problem.ends_with(", expected a map") => "it must hold sections, such as `commands:`".to_owned(),
        None => problem.to_owned(),
    }
}

fn check_sections(values: &Map<String, Value>, sections: &[&str], path: &Path) -> Result<(), SettingsError> {
    for section in values.keys().filter(|name| !sections.contains(&name.as_str())) {
        let home = FILES.iter().find(|(_, sections)| sections.contains(&section.as_str()));
        if let Some((right, _)) = home {
            return Err(SettingsError::Misplaced { section: section.clone(), path: path.to_owned(), right });
        }
    }
    Ok(())
}

fn environment(schema: &Json, variables: BTreeMap<String, String>) -> Result<Vec<Layer>, SettingsError> {
    let mut layers = Vec::new();
    let mut seen: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (variable, value) in variables {
        let short = SHORT.iter().find(|(name, ..)| *name == variable).map(|(.., key)| (*key).to_owned());
        let long = || variable.strip_prefix(PREFIX).map(|key| key.to_lowercase().replace("__", "."));
        let Some(key) = short.or_else(long) else { continue };
        let reader = Reader { schema, origin: format!("environment {variable}"), is_text: true };
        let is_empty = value.trim().is_empty();
        // An empty one is absent, but still has to be known.
        let kind = if is_empty { ValueKind::Nil } else { ValueKind::String(value.clone()) };
        match reader.adopt(nested(&key, kind)) {
            Ok(_) if is_empty => continue,
            Err(SettingsError::Invalid { .. }) if is_empty => continue,
            adopted => layers.push(Layer(adopted?)),
        }
        match seen.insert(key.clone(), (variable.clone(), value.clone())) {
            Some((first, other)) if other.trim() != value.trim() => {
                return Err(SettingsError::Contradiction { key, first, second: variable });
            }
            _ => {}
        }
    }
    Ok(layers)
}

fn flags(schema: &Json, flags: Flags) -> Result<Vec<Layer>, SettingsError> {
    let Flags { database_url, redis_url, log_level, snapshot_frequency, bind_address } = flags;
    let values = [database_url, redis_url, log_level, snapshot_frequency, bind_address];
    let given = SHORT.iter().zip(values).filter_map(|(short, value)| Some((short, value?)));
    given
        .map(|((_, flag, key), value)| {
            let reader = Reader { schema, origin: format!("flag {flag}"), is_text: true };
            reader.adopt(nested(key, ValueKind::String(value))).map(Layer)
        })
        .collect()
}

/// `a.b.c` as a tree of sections around one value.
fn nested(key: &str, kind: ValueKind) -> Map<String, Value> {
    let (first, rest) = match key.split_once('.') {
        Some((first, rest)) => (first, ValueKind::Table(nested(rest, kind))),
        None => (key, kind),
    };
    Map::from_iter([(first.to_owned(), Value::new(None, rest))])
}
