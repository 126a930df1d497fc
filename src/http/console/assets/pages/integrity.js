// Evidence: the signed checkpoint, a verification of the whole log or of one stream, and the proof of one event that this
// browser checks by itself.

import { get, getText, poll, post, segment } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { dateTime, number, seconds } from '../base/format.js';
import { t } from '../base/i18n.js';
import { isSigned, leafOf, parseNote, rootOf, rootText, hex } from '../base/merkle.js';
import { link, note } from '../base/router.js';
import { badge, busy, button, copyable, facts, field, heading, input, longFacts, panel, positionLink } from '../parts/controls.js';
import { followOperation } from '../parts/operation.js';
import { empty, failure, loading, show } from '../parts/states.js';

const LOOK_MS = 3_000;

function verdict(isGood, title, ...children) {
  return h('div', { class: `verdict ${isGood ? 'verdict-good' : 'verdict-bad'}`, role: 'status', 'data-verdict': isGood ? 'good' : 'bad' }, h('strong', null, title), children);
}

function checkpointPanel(signal) {
  const place = h('div', null, loading());
  let last = '';
  poll(LOOK_MS, signal, async () => {
    try {
      const [text, keys] = await Promise.all([getText('/api/v1/integrity/checkpoint', undefined, signal), getText('/api/v1/integrity/key', undefined, signal)]);
      if (text === last || signal.aborted) return;
      last = text;
      const { origin, size, root } = parseNote(text);
      const signed = await isSigned(text, keys);
      const told = signed === null ? badge('warn', t('signature not checked: this browser knows no Ed25519')) : signed ? badge('pass', t('signature checked here')) : badge('fail', t('not signed by a known key'));
      replace(
        place,
        h('div', { class: 'row' }, h('span', { class: 'figure mono' }, number(size)), h('span', { class: 'muted' }, t('events are sealed')), told),
        longFacts([t('Origin'), h('span', { class: 'mono breaks' }, origin)], [t('Root'), h('span', { class: 'mono breaks' }, root)], [t('Keys'), h('span', { class: 'mono breaks' }, keys.trim())]),
        h('details', null, h('summary', null, t('The signed note')), h('pre', { class: 'json', tabindex: '0', role: 'region', 'aria-label': t('The signed note') }, text), copyable(text, t('The signed note'))),
      );
    } catch (error) {
      if (signal.aborted) return;
      last = '';
      replace(place, error.status === 404 ? empty(t('No checkpoint yet'), error.message) : failure(error));
    }
  });
  return panel(t('Checkpoint'), place);
}

function reportView(report) {
  const title = report.intact ? t('The log is what was recorded') : t('The log was altered');
  const bad = report.first_bad;
  return verdict(
    report.intact,
    title,
    bad && h('p', null, bad.to_position ? t('First bad position: between {from} and {to}', { from: number(bad.position), to: number(bad.to_position) }) : t('First bad position: {position}', { position: number(bad.position) }), ' ', positionLink(bad.position), h('br'), bad.reason),
    facts(
      [t('Verified up to'), number(report.verified_position)],
      [t('Sealed up to'), number(report.sealed_position)],
      [t('Not sealed yet'), number(report.unsealed_events)],
      [t('Checkpoints held against'), number(report.checkpoints)],
      [t('Took'), seconds(report.duration_ms / 1000)],
    ),
    report.read_only && h('p', null, badge('fail', t('read-only')), ' ', t('The log takes no events until this is cleared up.')),
    report.remarks.length > 0 && h('ul', null, report.remarks.map((remark) => h('li', null, remark))),
  );
}

function verifyPanel(signal, told) {
  const place = h('div', { 'data-role': 'verification' });
  const earlier = h('textarea', { rows: '4', class: 'mono', spellcheck: 'false' });
  const begin = button(t('Verify the whole log'), () =>
    busy(begin, async () => {
      try {
        const body = earlier.value.trim() === '' ? undefined : { checkpoint: earlier.value.endsWith('\n') ? earlier.value : `${earlier.value}\n` };
        const ended = await followOperation(place, await post('/api/v1/integrity/verify', body, signal), signal);
        if (ended?.result) place.append(reportView(ended.result));
        told();
      } catch (error) {
        if (!signal.aborted) replace(place, failure(error));
      }
    }), 'primary');
  return panel(t('Verification'), h('p', { class: 'muted' }, t('Reads every event as it lies in the database, hashes the tree anew and holds it against every checkpoint.')), h('details', null, h('summary', null, t('Hold it against an earlier checkpoint')), field(t('Signed note'), earlier, t('As you took it away; only what came after it is read.'))), begin, place);
}

function streamPanel(query, signal) {
  const place = h('div');
  const idField = input({ class: 'mono', value: query.get('stream') ?? '' });
  const verify = () => {
    if (idField.value === '') return;
    note(['integrity'], { stream: idField.value });
    show(place, signal, async () => {
      const report = await get(`/api/v1/aggregates/${segment(idField.value)}/verify`, undefined, signal);
      const bad = report.first_bad;
      return verdict(report.intact, report.intact ? t('The stream is what was recorded') : t('The stream was altered'), bad && h('p', null, t('First bad sequence: {sequence}', { sequence: number(bad.sequence) }), ' ', bad.reason), facts([t('Events'), number(report.version)], [t('Proven'), number(report.proven_events)], [t('Not sealed yet'), number(report.unsealed_events)]));
    });
  };
  const form = h('form', { class: 'row fields' }, field(t('Aggregate id'), idField), h('button', { type: 'submit', class: 'button' }, t('Verify')));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    verify();
  });
  if (idField.value !== '') verify();
  return panel(t('One stream'), form, place);
}

async function prove(position, signal) {
  const [page, proof, keys] = await Promise.all([
    getText('/api/v1/events', { after: position - 1, limit: 1, raw: true }, signal),
    get('/api/v1/integrity/proof', { position }, signal),
    getText('/api/v1/integrity/key', undefined, signal),
  ]);
  const event = await leafOf(page);
  const { size } = parseNote(proof.checkpoint);
  const { root, steps } = await rootOf(event.leaf, position - 1, size, proof.hashes);
  const signed = await isSigned(proof.checkpoint, keys);
  const checks = [
    [t('The event at this position was read'), event.position === position],
    [t('Its bytes have the checksum it names'), event.checksum === event.claimed],
    [t('Its leaf is the one the proof is of'), hex(event.leaf) === proof.leaf_hash],
    [t('The path leads to the root of the checkpoint'), hex(root) === rootText(proof.checkpoint)],
    signed !== null && [t('The checkpoint is signed by a known key'), signed],
  ].filter(Boolean);
  return { event, size, steps, checks, isProven: checks.every(([, isTrue]) => isTrue) };
}

function proofView({ event, size, steps, checks, isProven }) {
  return verdict(
    isProven,
    isProven ? t('Proven: this event is in the signed log of {size} events', { size: number(size) }) : t('Not proven'),
    h('p', null, event.type, ' · ', h('a', { class: 'mono', href: link(['aggregates', event.aggregate]) }, event.aggregate)),
    h('ul', { class: 'checks' }, checks.map(([text, isTrue]) => h('li', null, badge(isTrue ? 'pass' : 'fail', isTrue ? t('yes') : t('no')), ' ', text))),
    h('details', null, h('summary', null, t('The path, leaf to root ({count} hashes)', { count: steps.length })), h('ol', { class: 'path mono small' }, h('li', null, t('leaf'), ' ', hex(event.leaf)), steps.map((step) => h('li', null, `${step.side === 'left' ? '◀' : '▶'} ${step.sibling}`)))),
  );
}

function proofPanel(query, signal) {
  const place = h('div', { 'data-role': 'proof' });
  const positionField = input({ type: 'number', min: '1', class: 'short mono', value: query.get('position') ?? '' });
  const run = () => {
    const position = Number(positionField.value);
    if (!(position >= 1)) return;
    note(['integrity'], { position });
    show(place, signal, async () => proofView(await prove(position, signal)), t('Hashing…'));
  };
  const form = h('form', { class: 'row fields' }, field(t('Position'), positionField), h('button', { type: 'submit', class: 'button primary' }, t('Prove it here')));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    run();
  });
  if (positionField.value !== '') run();
  return panel(t('Proof of an event'), h('p', { class: 'muted' }, t('Your browser computes the hashes with its own SHA-256; the server is not asked for its opinion.')), form, place);
}

async function lastVerifications(signal) {
  const { items } = await get('/api/v1/operations', { limit: 50 }, signal);
  return items.filter((operation) => operation.kind.includes('verif')).slice(0, 5);
}

function historyPanel(signal) {
  const place = h('div');
  const load = () => show(place, signal, async () => {
    const items = await lastVerifications(signal);
    if (items.length === 0) return empty(t('No verification yet'), t('Begin one above.'));
    return h('ul', { class: 'plain-list' }, items.map((item) => h('li', { class: 'row' }, badge(item.status), item.result && badge(item.result.intact ? 'pass' : 'fail', item.result.intact ? t('intact') : t('altered')), item.result?.first_bad && h('span', { class: 'small' }, t('First bad position: {position}', { position: number(item.result.first_bad.position) })), h('span', { class: 'mono small' }, `${dateTime(item.created_at)} UTC`))));
  });
  load();
  return { element: panel(t('Earlier verifications'), place), load };
}

export async function page({ query, signal }) {
  const history = historyPanel(signal);
  return h('div', null, heading(t('Integrity'), t('Whether history is what was recorded, and how you can know without trusting this server.')), h('div', { class: 'split' }, h('div', null, checkpointPanel(signal), verifyPanel(signal, history.load), history.element), h('div', null, proofPanel(query, signal), streamPanel(query, signal))));
}
