// The page /docs: renders the OpenAPI document of this server. Whatever comes from it, or from an answer, goes into the
// page as text and never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
let api = {};

const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
};

// What stands between back quotes is code.
const prose = (text, tag = "p") => {
  const parts = String(text ?? "").split("`");
  return element(tag, {}, ...parts.map((part, at) => (at % 2 ? element("code", {}, part) : part)));
};

const resolve = (schema) => {
  for (let hops = 0; schema?.$ref && hops < 20; hops += 1) {
    const path = schema.$ref.replace(/^#\//, "").split("/").map((part) => part.replace(/~1/g, "/").replace(/~0/g, "~"));
    schema = path.reduce((inner, part) => inner?.[part], api);
  }
  return schema ?? {};
};

const nameOf = (schema) => (schema?.$ref ? schema.$ref.split("/").pop() : null);

const bounds = (schema) => {
  const all = [];
  if (schema.const !== undefined) all.push(`is ${JSON.stringify(schema.const)}`);
  if (schema.enum) all.push(`one of ${schema.enum.map((value) => JSON.stringify(value)).join(", ")}`);
  if (schema.format) all.push(schema.format);
  if (schema.minimum > -1e15) all.push(`from ${schema.minimum}`);
  if (schema.maximum < 1e15) all.push(`to ${schema.maximum}`);
  if (schema.minLength !== undefined || schema.maxLength !== undefined) all.push(`${schema.minLength ?? 0} to ${schema.maxLength ?? "any number of"} characters`);
  if (schema.pattern) all.push(`like ${schema.pattern}`);
  if (schema.default !== undefined) all.push(`${JSON.stringify(schema.default)} if absent`);
  return all.join(", ");
};

const kindOf = (schema) => {
  const plain = resolve(schema);
  const own = nameOf(schema);
  if (own) return own;
  if (plain.type === "array") return `list of ${kindOf(plain.items ?? {})}`;
  return [plain.type ?? (plain.oneOf || plain.anyOf ? "one of several" : plain.allOf ? "all of" : "any JSON")].flat().join(" or ");
};

// Members of a schema; what lies deeper opens on demand, so that schemas that hold themselves do no harm.
const members = (schema) => {
  const plain = resolve(schema);
  const list = element("ul", { class: "schema" });
  const deeper = (label, inner, note) => {
    const flat = resolve(inner);
    const target = flat.type === "array" || (Array.isArray(flat.type) && flat.items) ? resolve(flat.items ?? {}) : flat;
    const opens = target.properties || target.oneOf || target.anyOf || target.allOf;
    const head = [label, " ", element("span", { class: "dim" }, [kindOf(inner), bounds(flat), note].filter(Boolean).join(" · "))];
    const told = inner.description ?? flat.description;
    if (!opens) return element("li", {}, ...head, told ? prose(told) : null);
    const body = element("div");
    const details = element("details", { ontoggle: () => details.open && !body.firstChild && body.append(members(target)) }, element("summary", {}, ...head), told ? prose(told) : null, body);
    return element("li", {}, details);
  };
  for (const [name, inner] of Object.entries(plain.properties ?? {})) {
    list.append(deeper(element("code", {}, name), inner, (plain.required ?? []).includes(name) ? "required" : ""));
  }
  for (const inner of [...(plain.allOf ?? []), ...(plain.oneOf ?? []), ...(plain.anyOf ?? [])]) {
    list.append(deeper("", inner, ""));
  }
  if (!list.firstChild) list.append(element("li", {}, kindOf(schema), " ", element("span", { class: "dim" }, bounds(plain))));
  return list;
};

const quoted = (text) => `'${String(text).replace(/'/g, "'\\''")}'`;

// The form of one operation: what it would send, as curl and for real.
const trial = (path, method, operation) => {
  const parameters = (operation.parameters ?? []).map(resolve);
  const content = operation.requestBody?.content?.["application/json"];
  const examples = Object.entries(content?.examples ?? {});
  const fields = parameters.map((parameter) => ({ parameter, input: element("input", { autocomplete: "off", spellcheck: "false", placeholder: bounds(resolve(parameter.schema)).slice(0, 60) }) }));
  const token = element("input", { type: "password", autocomplete: "off" });
  const medias = [...new Set(Object.entries(operation.responses).filter(([status]) => status < "300").flatMap(([, answer]) => Object.keys(resolve(answer).content ?? {})))];
  const media = element("select", {}, ...medias.map((name) => element("option", { value: name }, name)));
  const body = content ? element("textarea", { spellcheck: "false" }) : null;
  if (body) body.value = examples.length ? JSON.stringify(examples[0][1].value, null, 2) : "{}";
  const line = element("code");
  const output = element("pre", { hidden: true, tabindex: "0" });

  const request = () => {
    let url = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { parameter, input } of fields) {
      const value = input.value;
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, value ? encodeURIComponent(value) : `{${parameter.name}}`);
      else if (value === "") continue;
      else if (parameter.in === "query") {
        const isList = [resolve(parameter.schema).type].flat().includes("array");
        for (const one of isList ? value.split(",") : [value]) query.append(parameter.name, one.trim());
      } else headers[parameter.name] = value;
    }
    if (media.value) headers.Accept = media.value;
    if (body) headers["Content-Type"] = "application/json";
    if (token.value) headers.Authorization = `Bearer ${token.value}`;
    if (`${query}`) url += `?${query}`;
    return { url, headers, body: body?.value };
  };
  const show = () => {
    const { url, headers, body: sent } = request();
    const parts = ["curl", ...(method === "get" ? [] : ["-X", method.toUpperCase()]), quoted(location.origin + url)];
    for (const [name, value] of Object.entries(headers)) parts.push("-H", quoted(`${name}: ${name === "Authorization" ? "Bearer $TOKEN" : value}`));
    if (sent !== undefined) parts.push("-d", quoted(sent));
    line.textContent = parts.join(" ");
  };
  const send = async () => {
    output.hidden = false;
    output.textContent = "…";
    const { url, headers, body: sent } = request();
    const stop = new AbortController();
    const clock = setTimeout(() => stop.abort(), 30000);
    try {
      const answer = await fetch(url, { method: method.toUpperCase(), headers, body: sent, signal: stop.signal, credentials: "omit" });
      const head = [`${answer.status} ${answer.statusText}`, ...[...answer.headers].map(([name, value]) => `${name}: ${value}`)].join("\n");
      let text = "";
      output.textContent = head;
      // Streams do not end: what has come is shown, up to a bound.
      const reader = answer.body?.getReader();
      const decoder = new TextDecoder();
      while (reader && text.length < 200000) {
        const { done, value } = await reader.read();
        if (done) break;
        text += decoder.decode(value, { stream: true });
        output.textContent = `${head}\n\n${text}`;
      }
      if (text.length >= 200000) stop.abort();
      if (/json$/.test(answer.headers.get("content-type") ?? "")) output.textContent = `${head}\n\n${JSON.stringify(JSON.parse(text), null, 2)}`;
    } catch (error) {
      output.textContent += error.name === "AbortError" ? "\n\n(ended after 30 s)" : `\n\n${error}`;
    } finally {
      clearTimeout(clock);
    }
  };
  const form = element("form", { oninput: show, onsubmit: (event) => { event.preventDefault(); send(); } });
  const field = (label, input) => element("label", {}, element("span", {}, label), input);
  const box = element("div", { class: "fields" });
  for (const { parameter, input } of fields) {
    if (parameter.required) input.required = true;
    box.append(field(`${parameter.name} (${parameter.in})`, input));
  }
  if (medias.length > 1) box.append(field("Accept", media));
  box.append(field("Token (if the server wants one)", token));
  if (examples.length > 1) {
    const choice = element("select", { onchange: () => { body.value = JSON.stringify(examples[choice.value][1].value, null, 2); show(); } }, ...examples.map(([name, example], at) => element("option", { value: at }, example.summary ?? name)));
    box.append(field("Example", choice));
  }
  form.append(box);
  if (body) form.append(element("label", {}, "Body", body));
  form.append(element("pre", { tabindex: "0" }, line), element("button", { type: "submit" }, "Send"), output);
  show();
  return form;
};

const parameterTable = (operation) => {
  const rows = (operation.parameters ?? []).map(resolve).map((parameter) => element("tr", {}, element("td", {}, element("code", {}, parameter.name)), element("td", {}, parameter.in + (parameter.required ? ", required" : "")), element("td", {}, [kindOf(parameter.schema), bounds(resolve(parameter.schema))].filter(Boolean).join(" · ")), prose(parameter.description, "td")));
  if (!rows.length) return null;
  return element("div", {}, element("h3", {}, "Parameters and headers"), element("table", {}, element("thead", {}, element("tr", {}, ...["Name", "Where", "What", ""].map((name) => element("th", { scope: "col" }, name)))), element("tbody", {}, ...rows)));
};

const answers = (operation) => {
  const all = Object.entries(operation.responses).map(([status, reference]) => {
    const answer = resolve(reference);
    const details = element("details", {}, element("summary", {}, element("strong", {}, status), " ", prose(answer.description, "span")));
    const head = Object.keys(answer.headers ?? {});
    if (head.length) details.append(element("p", { class: "dim" }, `Headers: ${head.join(", ")}`));
    for (const [media, content] of Object.entries(answer.content ?? {})) {
      details.append(element("p", {}, element("code", {}, media)), members(content.schema));
    }
    const codes = (resolve(answer.content?.["application/problem+json"]?.schema ?? {}).allOf ?? []).flatMap((part) => part.properties?.code?.enum ?? []);
    if (codes.length) details.append(element("p", {}, ...codes.flatMap((code) => [element("a", { href: `/problems/${encodeURIComponent(code)}` }, code), " "])));
    return details;
  });
  return element("div", {}, element("h3", {}, "Answers"), ...all);
};

const content = (path, method, operation) => {
  const body = operation.requestBody?.content?.["application/json"];
  const parts = [operation.description ? prose(operation.description) : null, parameterTable(operation)];
  if (body) parts.push(element("div", {}, element("h3", {}, operation.requestBody.required ? "Body" : "Body (may be absent)"), members(body.schema)));
  const examples = Object.values(body?.examples ?? {});
  for (const example of examples) parts.push(element("details", {}, element("summary", {}, `Example: ${example.summary}`), element("pre", { tabindex: "0" }, JSON.stringify(example.value, null, 2))));
  parts.push(answers(operation), element("h3", {}, "Try it"), trial(path, method, operation));
  return parts;
};

const shown = (path, method, operation) => {
  const details = element("details", { id: operation.operationId, ontoggle: () => {
    if (details.open && details.childElementCount === 1) details.append(...content(path, method, operation).filter(Boolean));
  } }, element("summary", {}, element("span", { class: "method" }, method.toUpperCase()), element("code", {}, path), " ", operation.summary ?? ""));
  return details;
};

const render = () => {
  const main = document.getElementById("operations");
  const contents = document.getElementById("contents");
  if (api.info?.description) main.append(prose(api.info.description));
  const entries = [];
  for (const tag of api.tags ?? []) {
    const section = element("section", {}, element("h2", {}, tag.name), prose(tag.description));
    const list = element("ul");
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of METHODS.filter((name) => item[name]?.tags?.includes(tag.name))) {
        const operation = item[method];
        const entry = element("li", {}, element("a", { href: `#${operation.operationId}` }, operation.summary));
        entries.push({ entry, text: `${method} ${path} ${operation.summary} ${operation.operationId}`.toLowerCase() });
        list.append(entry);
        section.append(shown(path, method, operation));
      }
    }
    if (!list.firstChild) continue;
    contents.append(element("strong", {}, tag.name), list);
    main.append(section);
  }
  const models = element("section", {}, element("h2", {}, "Schemas"));
  for (const [name, schema] of Object.entries(api.components?.schemas ?? {})) {
    const details = element("details", { id: `schema-${name}`, ontoggle: () => details.open && details.childElementCount === 1 && details.append(schema.description ? prose(schema.description) : "", members(schema)) }, element("summary", {}, name));
    models.append(details);
  }
  main.append(models);
  document.getElementById("search").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const { entry, text } of entries) entry.hidden = !text.includes(wanted);
  });
};

const open = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
  }
};

const start = async () => {
  try {
    const answer = await fetch("/api/v1/openapi.json", { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    api = await answer.json();
    render();
    open();
    addEventListener("hashchange", open);
  } catch (error) {
    document.getElementById("operations").append(element("p", { role: "alert" }, `The document cannot be shown: ${error.message}`));
  }
};

start();
