// Sending commands and starting sagas: a form from the schema, or the body as JSON; tried first, then sent.

import { address, call, getText } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { number } from '../base/format.js';
import { t } from '../base/i18n.js';
import { parse, stringify } from '../base/json.js';
import { parseMetrics } from '../base/prometheus.js';
import { link, note } from '../base/router.js';
import { groupOf, openapi, resolve, variants } from '../base/schemas.js';
import { session } from '../base/session.js';
import { aggregateLink, badge, busy, button, copyable, facts, field, heading, input, panel } from '../parts/controls.js';
import { documentView } from '../parts/document.js';
import { formOf } from '../parts/form.js';
import { failure, loading, show } from '../parts/states.js';

const KINDS = {
  command: { path: '/api/v1/commands', property: 'command_type', canTry: true, template: { command_type: 'CreateAccount', aggregate_id: 'acc-1', data: { owner: 'Ada', initial_balance: 100 } } },
  saga: { path: '/api/v1/sagas', property: 'saga_type', canTry: false, template: { saga_type: 'TransferSaga', data: { from_account: 'acc-1', to_account: 'acc-2', amount: 10 } } },
  query: { path: '/api/v1/queries', property: 'query_type', canTry: false, template: { query_type: 'GetAccountBalance', filters: { account_id: 'acc-1' } } },
};

const heads = () => ({
  command: [t('Commands'), t('Try a command without recording anything, then send it.')],
  saga: [t('Commands'), t('Start a transaction over several aggregates.')],
  query: [t('Queries'), t('Ask the read models. A query changes nothing.')],
});
const verbs = () => ({ command: t('Send'), saga: t('Start'), query: t('Ask') });

/** A text in single quotes, as a shell takes it. */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

class Sender {
  constructor(kinds, { query, signal }) {
    Object.assign(this, { kinds, signal });
    this.kind = kinds.includes(query.get('kind')) ? query.get('kind') : kinds[0];
    this.branch = query.get('branch') ?? '';
    this.wanted = { aggregate: query.get('aggregate') ?? '', type: query.get('command') ?? query.get('query') ?? '', group: query.get('type') ?? '' };
    this.place = h('div', null, loading());
    this.outcome = h('div', { 'data-role': 'outcome' });
    this.curl = h('div', { class: 'curl' });
    this.version = input({ type: 'number', min: '0', class: 'short mono', on: { input: () => this.changed() } });
    this.key = freshKey();
  }

  get target() {
    return KINDS[this.kind];
  }

  element() {
    const names = { command: t('Command'), saga: t('Saga'), query: t('Query') };
    const kinds = this.kinds.length > 1 && h('div', { class: 'segments', role: 'group', 'aria-label': t('What to send') }, this.kinds.map((kind) => this.kindButton(kind, names[kind])));
    this.head = heading(heads()[this.kind][0], this.told(), kinds);
    return h('div', null, this.head, h('div', { class: 'split split-form' }, this.place, h('div', null, panel(t('Answer'), this.outcome), panel(t('The same with curl'), this.curl))));
  }

  told() {
    if (this.branch === '') return heads()[this.kind][1];
    return this.kind === 'query' ? t('Asks on the branch {branch}.', { branch: this.branch }) : t('Goes to the branch {branch}; main stays as it is.', { branch: this.branch });
  }

  kindButton(kind, text) {
    const control = h('button', { type: 'button', 'aria-pressed': String(kind === this.kind) }, text);
    control.addEventListener('click', () => {
      this.kind = kind;
      for (const other of control.parentElement.children) other.setAttribute('aria-pressed', String(other === control));
      note(['commands'], { kind: kind === 'command' ? '' : kind, branch: this.branch });
      this.head.querySelector('p').textContent = this.told();
      this.load();
    });
    return control;
  }

  load() {
    this.outcome.replaceChildren(h('p', { class: 'muted' }, t('Nothing was sent yet.')));
    return show(this.place, this.signal, async () => {
      this.document = await openapi(this.signal);
      this.variants = this.document ? variants(this.document, this.target.path, this.target.property) : new Map();
      return this.variants.size > 0 ? this.formPanel() : this.jsonPanel(await this.names(), null);
    });
  }

  /** Names for suggestions, where there are no schemas: the labels of the metrics have them. */
  async names() {
    if (this.kind !== 'command') return [];
    try {
      const samples = parseMetrics(await getText('/metrics', undefined, this.signal), new Set(['es_command_duration_seconds']));
      return [...new Set(samples.map(({ labels }) => labels.get('command_type')))].sort();
    } catch {
      return [];
    }
  }

  formPanel() {
    const names = [...this.variants.keys()];
    const body = h('div');
    const type = this.typeSelect(names);
    const draw = () => {
      this.form = formOf(this.document, this.variants.get(type.value), { preset: this.preset(type.value), changed: () => this.changed() });
      this.read = () => ({ [this.target.property]: type.value, ...this.form.value() });
      replace(body, this.form.element);
      this.changed();
    };
    type.addEventListener('change', draw);
    draw();
    const raw = button(t('As JSON'), () => replace(this.place, this.jsonPanel(names, this.read())));
    return panel(null, h('form', { on: { submit: (event) => this.submit(event) } }, h('div', { class: 'row row-spread' }, field(t('Type'), type), raw), body, this.foot()));
  }

  /** The types by what they are for; the first that fits what is wanted is chosen. */
  typeSelect(names) {
    const groups = new Map();
    for (const name of names) {
      const group = groupOf(this.document, this.variants.get(name));
      groups.set(group, [...(groups.get(group) ?? []), name]);
    }
    const option = (name) => h('option', { value: name }, name);
    const options = [...groups].map(([group, members]) => (group === '' ? members.map(option) : h('optgroup', { label: group }, members.map(option))));
    const control = h('select', { name: 'type' }, options);
    // What is there already was begun by the first of its commands.
    const [begins, goesOn] = (this.wanted.group !== '' && groups.get(this.wanted.group)) || names.slice(0, 1);
    control.value = names.includes(this.wanted.type) ? this.wanted.type : (goesOn ?? begins);
    return control;
  }

  preset(type) {
    const { filters } = this.variants.get(type).properties ?? {};
    const id = this.wanted.aggregate || undefined;
    const [first] = filters ? (resolve(this.document, filters).required ?? []) : [];
    return filters ? { filters: first && id ? { [first]: id } : undefined } : { aggregate_id: id };
  }

  jsonPanel(names, preset) {
    const body = preset ?? { ...this.target.template, ...(this.wanted.aggregate && this.kind === 'command' ? { aggregate_id: this.wanted.aggregate } : {}) };
    const text = h('textarea', { rows: '14', class: 'mono', spellcheck: 'false', name: 'body', on: { input: () => this.changed() } });
    text.value = stringify(body, 2);
    this.read = () => parse(text.value);
    this.changed();
    const back = this.variants.size > 0 && button(t('As a form'), () => replace(this.place, this.formPanel()));
    const hint = this.variants.size > 0 ? null : t('This build describes no schemas, so the body is JSON as the API takes it.');
    const known = names.length > 0 && h('p', { class: 'muted small' }, t('Known types'), ': ', names.map((name, index) => [index > 0 && ', ', h('code', null, name)]));
    return panel(null, h('form', { on: { submit: (event) => this.submit(event) } }, back, field(t('Body'), text, hint), known, this.foot()));
  }

  foot() {
    const send = h('button', { type: 'submit', class: 'button primary' }, verbs()[this.kind]);
    const attempt = this.target.canTry && button(t('Dry run'), () => busy(attempt, () => this.send(true)));
    return h('div', { class: 'row row-spread form-foot' }, this.kind === 'command' ? field(t('Expected version'), this.version) : h('span'), h('div', { class: 'row' }, attempt, send));
  }

  /** The curl line follows what is typed; a changed body is another request, so it has another key. */
  changed() {
    this.key = freshKey();
    let text;
    try {
      text = stringify(this.read());
    } catch (error) {
      replace(this.curl, h('p', { class: 'bad' }, t('The body is no JSON yet: {reason}', { reason: error.message })));
      return;
    }
    const parts = [`curl -X POST ${quoted(address(this.target.path, { branch: this.branch }).href)}`, `-H 'content-type: application/json'`];
    if (session.token) parts.push('-H "authorization: Bearer $TOKEN"');
    if (this.kind === 'command' && this.version.value !== '') parts.push(`-H 'if-match: "${Number(this.version.value)}"'`);
    parts.push(`-d ${quoted(text)}`);
    replace(this.curl, copyable(parts.join(' '), 'curl'));
  }

  submit(event) {
    event.preventDefault();
    const control = event.submitter ?? event.target.querySelector('[type=submit]');
    return busy(control, () => this.send(false));
  }

  async send(isDry) {
    let body;
    try {
      body = stringify(this.read());
    } catch (error) {
      replace(this.outcome, h('p', { class: 'bad', role: 'alert' }, t('The body is no JSON yet: {reason}', { reason: error.message })));
      return;
    }
    const headers = {};
    if (!isDry && this.kind !== 'query') headers['idempotency-key'] = this.key;
    if (this.kind === 'command' && this.version.value !== '') headers['if-match'] = `"${Number(this.version.value)}"`;
    replace(this.outcome, loading());
    try {
      const answer = await call('POST', this.target.path, { query: { branch: this.branch, dry_run: isDry || undefined }, body, headers, signal: this.signal });
      if (!isDry) this.key = freshKey();
      replace(this.outcome, this.kind === 'query' ? this.found(answer.data) : this.answered(answer.data, isDry));
    } catch (error) {
      if (!this.signal.aborted) replace(this.outcome, failure(error));
    }
  }

  /** What a query found, and how fresh it is. */
  found(answer) {
    const { position, head_position: head, stale, cached, projection } = answer;
    const freshness = facts([t('Projection'), h('a', { class: 'mono', href: link(['projections']) }, projection)], [t('As of position'), h('span', { class: 'mono' }, `${number(position)} / ${number(head)}`)], [t('From the cache'), cached ? t('yes') : t('no')]);
    return h('div', { class: 'found', role: 'status', 'data-role': 'found' }, documentView(answer.data, t('Answer')), freshness, stale && badge('warn', t('It is older than what was asked for.')));
  }

  answered(data, isDry) {
    const title = isDry ? t('It would be accepted') : this.kind === 'saga' ? t('Started') : t('Recorded');
    const where = this.branch !== '' ? this.kind === 'command' ? aggregateLink(data.aggregate_id, { branch: this.branch, at: isDry ? undefined : data.version }) : h('a', { class: 'mono', href: link(['sagas', data.saga_id], { branch: this.branch }) }, data.saga_id) : this.kind === 'saga' ? h('a', { class: 'mono', href: link(['sagas', data.saga_id]) }, data.saga_id) : aggregateLink(data.aggregate_id, isDry ? undefined : { at: data.version });
    const told = this.kind === 'saga' ? t(data.status) : t('version {version}', { version: number(data.version) });
    return h('div', { class: 'verdict verdict-good', role: 'status', 'data-dry': String(isDry) }, h('strong', null, title), h('p', null, where, ' · ', told), documentView(data, t('Answer')));
  }
}

/** A page that sends these kinds of things. */
export const senderPage = (kinds) => async (context) => {
  const sender = new Sender(kinds, context);
  sender.load();
  return sender.element();
};

export const page = senderPage(['command', 'saga']);
