// One saga: its steps there and back, its timers, and everything that happened to it.

import { call, get, poll, segment } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { ago, clock, dateTime, seconds, shortId } from '../base/format.js';
import { t } from '../base/i18n.js';
import { link } from '../base/router.js';
import { badge, busy, button, correlationLink, facts, idLine, panel, positionLink, table } from '../parts/controls.js';
import { documentView } from '../parts/document.js';
import { announce, confirm } from '../parts/notice.js';
import { empty, failure, loading } from '../parts/states.js';
import { journey } from '../parts/journey.js';

const LOOK_MS = 1_000;
const OPEN = ['running', 'compensating', 'failed'];

export async function page({ segments, query, signal }) {
  const id = segments[1];
  const branch = query.get('branch') ?? '';
  const title = h('h1', { tabindex: '-1' }, t('Saga'));
  const place = h('div', null, loading());
  const trouble = h('div');
  let version = -1;

  async function act(word) {
    const question = word === 'cancel' ? [t('Cancel this saga?'), t('What was done so far is undone, the last step first.'), t('Cancel it')] : null;
    if (question && !(await confirm(...question))) return;
    try {
      await call('POST', `/api/v1/sagas/${segment(id)}/${word}`, { query: { branch }, signal });
      announce(word === 'cancel' ? t('The saga undoes what it did.') : t('The saga goes on.'), 'good');
      await look();
    } catch (error) {
      if (!signal.aborted) replace(trouble, failure(error));
    }
  }

  function action(word, text) {
    const control = button(text, () => busy(control, () => act(word)));
    return control;
  }

  async function look() {
    try {
      const saga = await get(`/api/v1/sagas/${segment(id)}`, { branch }, signal);
      if (signal.aborted || saga.version === version) return;
      version = saga.version;
      replace(title, saga.saga_type);
      replace(place, shown(saga, action, branch));
    } catch (error) {
      if (signal.aborted) return;
      version = -1;
      replace(place, failure(error, look));
    }
  }

  poll(LOOK_MS, signal, look);
  return h('div', null, h('header', { class: 'page-head' }, h('div', null, h('p', { class: 'eyebrow' }, h('a', { href: link(['sagas']) }, t('Sagas')), branch !== '' && [' / ', t('Branch'), ' ', h('a', { class: 'mono', href: link(['branches', branch]) }, shortId(branch))]), title, idLine(id))), trouble, place);
}

function shown(saga, action, branch) {
  const isOnMain = branch === '';
  const isOpen = OPEN.includes(saga.status);
  const took = saga.ended_at && seconds((Date.parse(saga.ended_at) - Date.parse(saga.started_at)) / 1000);
  const timers = saga.timers.map((timer) => h('tr', null, h('th', { scope: 'row' }, timer.name), h('td', null, badge(timer.status)), h('td', { title: timer.due_at }, h('span', { class: 'mono nowrap' }, dateTime(timer.due_at).slice(5, 19)), ' ', timer.status === 'set' && h('span', { class: 'muted small nowrap' }, ago(timer.due_at)))));
  return h(
    'div',
    { 'data-saga-status': saga.status },
    h(
      'section',
      { class: 'panel' },
      h('div', { class: 'row row-spread' }, h('div', { class: 'row' }, h('h2', null, t('Steps')), badge(saga.status)), h('div', { class: 'row' }, saga.status === 'failed' && action('retry', t('Retry')), isOpen && action('cancel', t('Cancel and undo')))),
      saga.reason && h('p', { class: saga.status === 'failed' ? 'trouble' : 'trouble trouble-warn' }, h('strong', null, saga.reason.code), h('span', null, saga.reason.message)),
      journey(saga),
      facts([t('Started'), h('span', null, h('span', { class: 'mono' }, `${dateTime(saga.started_at).slice(0, 19)} UTC`), took ? '' : h('span', { class: 'muted nowrap' }, ` ${ago(saga.started_at)}`))], took && [t('Took'), took], [t('Definition'), t('version {version}', { version: saga.definition_version })], [t('Correlation'), isOnMain ? correlationLink(saga.correlation_id) : h('span', { class: 'mono' }, shortId(saga.correlation_id))], [t('Stream'), h('a', { href: link(['aggregates', saga.saga_id], { branch }) }, t('time travel'))]),
    ),
    h(
      'div',
      { class: 'split' },
      panel(t('What happened'), h('ol', { class: 'happenings' }, saga.timeline.map((event) => h('li', { class: happeningTone(event.event) }, h('span', { class: 'mono muted nowrap' }, clock(event.at)), h('div', null, h('strong', null, event.event), event.step && h('span', { class: 'muted' }, ` · ${event.step}`), h('p', null, event.detail ?? '')), isOnMain ? positionLink(event.position) : h('span', { class: 'mono muted' }, String(event.position)))))),
      h('div', null, panel(t('Timers'), timers.length > 0 ? table(t('Timers'), [[t('Timer')], [t('Status')], [t('Due (UTC)')]], timers).frame : empty(t('No timers'))), panel(t('Works on'), documentView(saga.data, t('Works on')))),
    ),
  );
}

function happeningTone(type) {
  if (/Refused|Failed/.test(type)) return 'tone-bad';
  if (/Compensation|Cancel|TimerFired/.test(type)) return 'tone-warn';
  if (/Answered|Ended/.test(type)) return 'tone-good';
  return 'tone-plain';
}
