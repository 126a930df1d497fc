//! `command list` and `query list`, and what helps whoever names a type that is missing or unknown: an example that can be
//! pasted. All of it comes from the document of the HTTP API: that of these settings, or with `--url` that of the server.

use event_sourcing_actors::catalog::nearest;
use serde_json::{Map, Value, json};

use super::{
    Context,
    exit::{Exit, Failure},
    output::{Format, line, talk},
    table::table,
};

/// Deepest schema that an example is made of.
const DEPTH_MAX: usize = 8;

/// What there are types of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Commands.
    Command,
    /// Queries.
    Query,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Query => "query",
        }
    }

    /// The member that holds what a body works on.
    fn payload(self) -> &'static str {
        match self {
            Self::Command => "data",
            Self::Query => "filters",
        }
    }
}

/// The types of one kind, as a document tells them.
#[derive(Debug)]
pub(crate) struct Known {
    kind: Kind,
    document: Value,
}

impl Known {
    /// Those of the server, or of these settings; the store stays closed.
    #[cfg(feature = "http")]
    pub(crate) async fn of(context: &Context, kind: Kind) -> Result<Self, Failure> {
        use event_sourcing_cqrs::{
            app::App,
            http::{Registered, openapi},
        };

        use super::remote::Remote;

        let document = match &context.url {
            Some(url) => Remote::new(url, context.timeout)?.with_token(context.token.clone()).openapi().await?,
            None => {
                let app = App::builder().settings(context.settings.clone()).registered()?;
                openapi(Registered {
                    catalog: &app.catalog,
                    queries: &app.queries,
                    sagas: &app.sagas,
                    is_guarded: false,
                })
            }
        };
        Ok(Self { kind, document })
    }

    /// The document is a part of the HTTP door.
    #[cfg(not(feature = "http"))]
    pub(crate) async fn of(_: &Context, _: Kind) -> Result<Self, Failure> {
        Err(Failure::usage("this list needs the feature \"http\", which this program was built without"))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let union = if self.kind == Kind::Command { "Command" } else { "Query" };
        let mapping = &self.document["components"]["schemas"][union]["discriminator"]["mapping"];
        mapping.as_object().into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// The schema behind references; the first of several, but not null.
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        for _ in 0..DEPTH_MAX {
            let of_several = ["anyOf", "oneOf"].iter().find_map(|several| schema[*several].as_array());
            let next = match (schema["$ref"].as_str(), of_several) {
                (Some(reference), _) => self.document.pointer(reference.trim_start_matches('#')),
                (None, Some(all)) => all.iter().find(|one| one["type"] != "null"),
                (None, None) => None,
            };
            match next {
                Some(next) => schema = next,
                None => break,
            }
        }
        schema
    }

    fn schema(&self, name: &str) -> &Value {
        let place =
            format!("/components/schemas/{name}{}", if self.kind == Kind::Command { "Command" } else { "Query" });
        self.document.pointer(&place).map_or(&Value::Null, |schema| self.resolved(schema))
    }

    /// The body of one type: the document's own example, else one made of what is required.
    fn body(&self, name: &str) -> Value {
        let (path, member) = match self.kind {
            Kind::Command => ("/api/v1/commands", "command_type"),
            Kind::Query => ("/api/v1/queries", "query_type"),
        };
        let examples = &self.document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"];
        let mut examples = examples.as_object().into_iter().flat_map(Map::values).map(|example| &example["value"]);
        if let Some(example) = examples.find(|body| body[member] == name) {
            return example.clone();
        }
        let payload = self.resolved(&self.schema(name)["properties"][self.kind.payload()]);
        let repeated = members(payload).find(|(name, is_required)| name.ends_with("_id") && !is_required);
        let id = repeated.map_or_else(|| "id-1".to_owned(), |(name, _)| text_of(name));
        json!({ member: name, "aggregate_id": id, self.kind.payload(): self.example(payload, "", 0) })
    }

    fn example(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let schema = self.resolved(schema);
        let told = schema["examples"].as_array().and_then(|all| all.first());
        let told =
            told.or_else(|| schema.get("const")).or_else(|| schema["enum"].as_array().and_then(|all| all.first()));
        if let Some(told) = told {
            return told.clone();
        }
        // Of `["string", "null"]` the first.
        let kind = schema["type"].as_str().or_else(|| schema["type"].as_array().and_then(|all| all.first()?.as_str()));
        match kind {
            Some("integer" | "number") => schema["minimum"].as_i64().map_or(1, |least| least.max(1)).into(),
            Some("boolean") => true.into(),
            Some("array") if depth < DEPTH_MAX => json!([self.example(&schema["items"], name, depth + 1)]),
            Some("object") if depth < DEPTH_MAX => {
                let required = members(schema).filter(|(_, is_required)| *is_required);
                let value = |name: &str| self.example(&schema["properties"][name], name, depth + 1);
                Value::Object(required.map(|(name, _)| (name.to_owned(), value(name))).collect())
            }
            Some("string") => match schema["format"].as_str() {
                Some("date") => "2026-01-31".into(),
                Some("date-time") => "2026-01-31T12:00:00Z".into(),
                _ => text_of(name).into(),
            },
            _ => json!({}),
        }
    }

    /// The line that does it, to be pasted into a shell.
    pub(crate) fn pasted(&self, name: &str, url: Option<&str>) -> String {
        let body = self.body(name);
        let none = Map::new();
        let payload = body[self.kind.payload()].as_object().unwrap_or(&none);
        let word = self.kind.word();
        let mut line = format!("{} {word} send {name}", env!("CARGO_PKG_NAME"));
        match self.kind {
            Kind::Command => {
                line.push_str(&format!(" {}", quoted(body["aggregate_id"].as_str().unwrap_or_default())));
                if !payload.is_empty() {
                    line.push_str(&format!(" --data {}", quoted(&Value::from(payload.clone()).to_string())));
                }
            }
            Kind::Query => {
                for (name, value) in payload {
                    let filter =
                        value.as_str().map_or_else(|| format!("{name}:={value}"), |text| format!("{name}={text}"));
                    line.push_str(&format!(" --filter {}", quoted(&filter)));
                }
            }
        }
        url.map_or_else(|| line.clone(), |url| format!("{line} --url {}", quoted(url)))
    }

    /// What to do instead, for whoever named no type, or one that is not known.
    fn tips(&self, name: Option<&str>, url: Option<&str>) -> Vec<String> {
        let word = self.kind.word();
        let is_known = |name: &&str| self.names().any(|known| known == *name);
        let like = name.filter(is_known).map(str::to_owned);
        let like = like.or_else(|| nearest(name?, self.names()).into_iter().next());
        // The examples of the specification, else the first there is.
        let first = ["CreateAccount", "GetAccountBalance"].into_iter().find(is_known).or_else(|| self.names().next());
        let example = like.or_else(|| first.map(str::to_owned));
        let example = example.map(|name| format!("for example: {}", self.pasted(&name, url)));
        let url = url.map_or_else(String::new, |url| format!(" --url {}", quoted(url)));
        let all = format!("all of them: {} {word} list{url}", env!("CARGO_PKG_NAME"));
        example.into_iter().chain([all]).collect()
    }

    fn print(&self, context: &Context) -> Result<(), Failure> {
        let items: Vec<Value> = self.names().map(|name| self.item(name, context.url.as_deref())).collect();
        match context.output.format {
            Format::Json => context.output.document(&json!({ "items": items, "next_cursor": null }), String::new),
            Format::Ndjson => items.iter().try_for_each(|item| context.output.text(&line(item)?)),
            Format::Human => {
                let rows: Vec<Vec<String>> = self.names().map(|name| self.row(name)).collect();
                let title = if self.kind == Kind::Command { "COMMAND" } else { "QUERY" };
                context.output.text(&table(&[title, "MEMBERS", "WHAT IT DOES"], &rows))?;
                self.tips(None, context.url.as_deref()).iter().take(1).for_each(|tip| talk(tip));
                Ok(())
            }
        }
    }

    fn item(&self, name: &str, url: Option<&str>) -> Value {
        let member = format!("{}_type", self.kind.word());
        let payload = self.resolved(&self.schema(name)["properties"][self.kind.payload()]);
        json!({
            member: name, "description": self.description(name), self.kind.payload(): payload, "example": self.pasted(name, url),
        })
    }

    fn row(&self, name: &str) -> Vec<String> {
        let payload = self.resolved(&self.schema(name)["properties"][self.kind.payload()]);
        let shown = |(name, is_required): (&str, bool)| if is_required { name.to_owned() } else { format!("[{name}]") };
        let mut named: Vec<_> = members(payload).collect();
        named.sort_by_key(|(_, is_required)| !is_required);
        let named: Vec<String> = named.into_iter().map(shown).collect();
        vec![name.to_owned(), if named.is_empty() { "-".to_owned() } else { named.join(" ") }, self.description(name)]
    }

    /// A command's own words are those of its members; a query has some of its own.
    fn description(&self, name: &str) -> String {
        let schema = self.schema(name);
        let data = &self.resolved(&schema["properties"][self.kind.payload()])["description"];
        let told = if self.kind == Kind::Command { data.as_str() } else { None };
        told.or_else(|| schema["description"].as_str()).unwrap_or_default().to_owned()
    }
}

/// The members of an object, each with whether it is required.
fn members(schema: &Value) -> impl Iterator<Item = (&str, bool)> {
    let required = schema["required"].as_array();
    let is_required = move |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
    let properties = schema["properties"].as_object();
    properties.into_iter().flat_map(Map::keys).map(move |name| (name.as_str(), is_required(name)))
}

/// A text for a member: `order-1` for `order_id`.
fn text_of(member: &str) -> String {
    if member == "email" {
        return "ada@example.org".to_owned();
    }
    member.strip_suffix("_id").map_or_else(|| member.to_owned(), |what| format!("{what}-1"))
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Prints all types of a kind.
pub(crate) async fn list(context: &Context, kind: Kind) -> Result<(), Failure> {
    Known::of(context, kind).await?.print(context)
}

/// A refusal, with an example where the type or its members are what is wrong.
pub(crate) async fn helped(context: &Context, kind: Kind, name: &str, failure: Failure) -> Failure {
    // Programs read no examples.
    if failure.exit != Exit::Failed || context.output.format != Format::Human {
        return failure;
    }
    // Where the document cannot be had there is no example; the refusal stands as it is.
    let Ok(known) = Known::of(context, kind).await else { return failure };
    let is_known = known.names().any(|one| one == name);
    if is_known && !failure.to_string().contains("validation-failed") {
        return failure;
    }
    let tips = known.tips(Some(name), context.url.as_deref());
    // Whoever knows the type needs no list of them.
    tips.into_iter().take(if is_known { 1 } else { 2 }).fold(failure, Failure::and)
}

/// What is said where a word has no type, or no aggregate: tips under the parser's own sentence.
#[cfg(feature = "http")]
pub(crate) fn tips_of_word(said: &[String]) -> Vec<String> {
    use event_sourcing_cqrs::{
        app::App,
        http::{Registered, openapi},
    };

    let kind = match said.iter().find_map(|word| match word.as_str() {
        "command" => Some(Kind::Command),
        "query" => Some(Kind::Query),
        _ => None,
    }) {
        Some(kind) if said.iter().any(|word| word == "send") => kind,
        _ => return Vec::new(),
    };
    let Ok(app) = App::builder().registered() else { return Vec::new() };
    let document =
        openapi(Registered { catalog: &app.catalog, queries: &app.queries, sagas: &app.sagas, is_guarded: false });
    let known = Known { kind, document };
    let named = said.iter().skip_while(|word| *word != "send").nth(1).map(String::as_str);
    known.tips(named, None)
}

/// The document is a part of the HTTP door.
#[cfg(not(feature = "http"))]
pub(crate) fn tips_of_word(_: &[String]) -> Vec<String> {
    Vec::new()
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;

    fn told(words: &[&str]) -> Vec<String> {
        tips_of_word(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn word_without_a_type_gets_a_line_to_paste() {
        assert_eq!(
            told(&["command", "send"]),
            [
                "for example: event-sourcing-cqrs command send CreateAccount acc-123 --data \
                 '{\"account_id\":\"acc-123\",\"initial_balance\":1000,\"owner\":\"John Doe\"}'",
                "all of them: event-sourcing-cqrs command list",
            ]
        );
        let reserve = told(&["--timeout", "3", "command", "send", "ReserveStock"]).remove(0);
        assert_eq!(
            reserve,
            "for example: event-sourcing-cqrs command send ReserveStock product-1 --data '{\"order_id\":\"order-1\",\"quantity\":1}'"
        );
        let query = told(&["query", "send"]).remove(0);
        assert_eq!(query, "for example: event-sourcing-cqrs query send GetAccountBalance --filter account_id=acc-123");
        assert_eq!(told(&["saga", "start"]), [""; 0]);
    }

    #[test]
    fn what_a_shell_would_read_is_quoted() {
        assert_eq!(["a-1", "", "it's", "a b"].map(quoted), ["a-1", "''", r"'it'\''s'", "'a b'"]);
    }
}
