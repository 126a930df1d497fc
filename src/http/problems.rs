//! `GET /problems/{code}`: a page for people per error code; the `type` of each problem leads here.

use super::{
    error::{self, Answer, Problem},
    reply,
    request::Call,
};

/// What a code means and what to do.
pub(super) async fn show(call: Call) -> Answer {
    let name = call.decoded(0)?;
    let Some(code) = error::code(&name) else {
        return Err(Problem::new(error::NOT_FOUND, "there is no problem of this name"));
    };
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{name}</title>\n<h1>{title}</h1>\n\
         <p><code>{name}</code>, status {status}</p>\n<p>{help}</p>\n</html>\n",
        name = code.name,
        title = code.title,
        status = code.status.as_u16(),
        help = escaped(code.help),
    );
    Ok(reply::bytes(page, "text/html; charset=utf-8"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
