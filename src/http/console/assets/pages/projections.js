// The read models: how each stands, what stopped it, and what an operator can do.

import { get, poll, post, segment } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { dateTime, number, seconds } from '../base/format.js';
import { t } from '../base/i18n.js';
import { aggregateLink, badge, busy, button, facts, heading, positionLink, progress, typeMark } from '../parts/controls.js';
import { announce, confirm } from '../parts/notice.js';
import { followOperation } from '../parts/operation.js';
import { empty, failure, loading, show } from '../parts/states.js';

const LOOK_MS = 1_000;

/** A declared one's version is made of its declaration: a mark to compare, no number to read. */
function versionOf(version) {
  const text = String(version);
  return text.length <= 6 ? text : h('span', { class: 'mono', title: text }, `…${text.slice(-5)}`);
}

const path = (name, rest = '') => `/api/v1/projections/${segment(name)}${rest}`;

class Board {
  constructor(signal) {
    this.signal = signal;
    this.cards = new Map();
    this.list = h('div', { class: 'cards' }, loading());
  }

  async look() {
    try {
      const { items } = await get('/api/v1/projections', undefined, this.signal);
      if (this.signal.aborted) return;
      if (items.length === 0) {
        replace(this.list, empty(t('There are no projections'), t('Declare one in config/projections.yaml.')));
        return;
      }
      const names = items.map(({ name }) => name);
      if (names.join('\n') !== [...this.cards.keys()].join('\n')) {
        this.cards = new Map(names.map((name) => [name, this.cards.get(name) ?? new Card(name, this.signal)]));
        replace(this.list, [...this.cards.values()].map((card) => card.element));
      }
      for (const item of items) this.cards.get(item.name).show(item);
    } catch (error) {
      if (this.signal.aborted) return;
      this.cards.clear();
      replace(this.list, failure(error, () => this.look()));
    }
  }
}

class Card {
  constructor(name, signal) {
    Object.assign(this, { name, signal });
    this.state = h('div');
    this.operation = h('div');
    this.parkedPlace = h('div', { class: 'parked' });
    this.buttons = {
      rebuild: this.action('rebuild', t('Rebuild')),
      pause: this.action('pause', t('Pause')),
      resume: this.action('resume', t('Resume')),
      rollback: this.action('rollback', t('Roll back')),
      parked: h('button', { type: 'button', class: 'button', 'aria-expanded': 'false', on: { click: () => this.toggleParked() } }, t('Parked events')),
    };
    this.badge = h('span');
    this.element = h('section', { class: 'panel card', 'data-projection': name, 'aria-label': name }, h('div', { class: 'row row-spread' }, h('h2', { class: 'mono' }, name), this.badge), this.state, this.operation, h('div', { class: 'row card-foot' }, Object.values(this.buttons)), this.parkedPlace);
  }

  action(word, text) {
    const control = button(text, () => busy(control, () => this.act(word)));
    return control;
  }

  async act(word) {
    const isWanted = word !== 'rollback' || (await confirm(t('Roll back {name}?', { name: this.name }), t('The rows from before the last rebuild are served again, and stay as they are until it is resumed or rebuilt.'), t('Roll back')));
    if (!isWanted) return;
    try {
      const answer = await post(path(this.name, `/${word}`), undefined, this.signal);
      if (answer?.operation_id) {
        const ended = await followOperation(this.operation, answer, this.signal);
        if (ended) announce(t('{name}: {what} {status}', { name: this.name, what: t(word), status: t(ended.status) }), ended.status === 'succeeded' ? 'good' : 'bad');
      } else this.show(answer?.name ? answer : await get(path(this.name), undefined, this.signal));
    } catch (error) {
      if (!this.signal.aborted) replace(this.operation, failure(error));
    }
  }

  show(item) {
    const { last_error: error, rebuild } = item;
    replace(this.badge, badge(item.status));
    this.element.dataset.status = item.status;
    replace(
      this.state,
      h('div', { class: 'lag' }, h('span', { class: 'lag-figure mono' }, number(item.lag_events)), h('span', { class: 'muted' }, t('events behind')), item.lag_events > 0 && h('span', { class: 'muted mono' }, seconds(item.lag_seconds))),
      progress(item.checkpoint, Math.max(1, item.head), t('Checkpoint of {name}', { name: this.name })),
      facts(
        [t('Checkpoint'), h('span', { class: 'mono' }, `${number(item.checkpoint)} / ${number(item.head)}`)],
        [t('Parked'), number(item.parked)],
        [t('Version'), versionOf(item.version)],
        [t('Kept by'), item.owner === null ? t('nobody') : item.owned_here ? t('this process') : t('another replica')],
      ),
      rebuild && h('div', { class: 'rebuild', 'data-role': 'rebuild' }, h('span', { class: 'small' }, t('Rebuild: {done} of {total} events', { done: number(rebuild.done), total: number(rebuild.total) })), progress(rebuild.done, Math.max(1, rebuild.total), t('Rebuild of {name}', { name: this.name }))),
      error && h('div', { class: 'trouble' }, h('p', null, h('strong', null, t('Last error')), ' ', error.reason), h('p', { class: 'muted small' }, dateTime(error.at), ' ', error.position !== null && positionLink(error.position), ' ', error.event_type, ' ', error.aggregate_id !== null && aggregateLink(error.aggregate_id))),
    );
    this.buttons.pause.hidden = item.paused;
    this.buttons.resume.hidden = !item.paused && item.status !== 'rolled_back';
    this.buttons.rollback.hidden = !item.can_roll_back;
    this.buttons.parked.hidden = item.parked === 0 && this.buttons.parked.getAttribute('aria-expanded') === 'false';
  }

  toggleParked() {
    const isOpen = this.buttons.parked.getAttribute('aria-expanded') === 'true';
    this.buttons.parked.setAttribute('aria-expanded', String(!isOpen));
    if (isOpen) this.parkedPlace.replaceChildren();
    else this.showParked();
  }

  showParked() {
    return show(this.parkedPlace, this.signal, async () => {
      const { items } = await get(path(this.name, '/parked'), undefined, this.signal);
      if (items.length === 0) return empty(t('Nothing is parked'), t('Every event was applied.'));
      return h('ul', { class: 'plain-list lines', 'aria-label': t('Parked events of {name}', { name: this.name }) }, items.map((item) => this.parkedLine(item)));
    });
  }

  parkedLine(item) {
    const wish = async (word) => {
      const isWanted = word !== 'skip' || (await confirm(t('Leave this event out?'), t('The read model will never hold what the event at position {position} says, until it is rebuilt.', { position: item.position }), t('Skip it')));
      if (!isWanted) return;
      try {
        const operation = await post(path(this.name, `/parked/${item.position}/${word}`), undefined, this.signal);
        if (operation?.operation_id) await followOperation(this.operation, operation, this.signal);
        await this.showParked();
      } catch (error) {
        if (!this.signal.aborted) replace(this.operation, failure(error));
      }
    };
    const buttons = item.skipped === null ? h('div', { class: 'row' }, button(t('Retry'), () => wish('retry')), button(t('Skip'), () => wish('skip'))) : badge('plain', t('skipped'));
    const what = h('div', { class: 'row' }, positionLink(item.position), typeMark(item.event_type), aggregateLink(item.aggregate_id));
    return h('li', null, h('div', { class: 'row row-spread' }, what, buttons), h('p', { class: 'muted small' }, item.error ?? item.waiting_for ?? ''));
  }
}

export async function page({ signal }) {
  const board = new Board(signal);
  poll(LOOK_MS, signal, () => board.look());
  return h('div', null, heading(t('Projections'), t('Read models made from the log. Rebuilding serves the old rows until the new ones have caught up.')), board.list);
}
