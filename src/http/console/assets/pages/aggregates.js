// Which streams there are, and the way to one of them.

import { get } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { ago, number } from '../base/format.js';
import { t } from '../base/i18n.js';
import { go, note } from '../base/router.js';
import { aggregateLink, button, field, heading, input, positionLink, table, typeMark } from '../parts/controls.js';
import { empty, failure, show } from '../parts/states.js';

const PAGE = 100;

export async function page({ query, signal }) {
  let type = query.get('type') ?? '';
  const list = h('div');
  const more = h('div', { class: 'row row-center' });
  const idField = input({ name: 'id', class: 'mono' });
  const typeField = input({ name: 'type', value: type });

  const row = (stream) =>
    h(
      'tr',
      null,
      h('th', { scope: 'row', class: 'cut' }, aggregateLink(stream.aggregate_id)),
      h('td', null, typeMark(stream.aggregate_type)),
      h('td', { class: 'number mono' }, number(stream.version)),
      h('td', { class: 'number' }, positionLink(stream.position)),
      h('td', { class: 'nowrap', title: stream.recorded_at }, ago(stream.recorded_at)),
    );

  async function rows(cursor) {
    const { items, next_cursor: next } = await get('/api/v1/aggregates', { aggregate_type: type, cursor, limit: PAGE }, signal);
    const load = async () => {
      try {
        const found = await rows(next);
        list.querySelector('tbody').append(...found);
      } catch (error) {
        if (!signal.aborted) replace(more, failure(error, load));
      }
    };
    replace(more, next !== null && button(t('More'), load));
    return items.map(row);
  }

  const load = () =>
    show(list, signal, async () => {
      const found = await rows();
      if (found.length > 0) return table(t('Aggregates'), [[t('Id')], [t('Type')], [t('Events'), 'number'], [t('Last position'), 'number'], [t('Last change')]], found).frame;
      return empty(type === '' ? t('There are no aggregates yet') : t('There is no aggregate of this type'), t('A command makes one.'), h('a', { class: 'button primary', href: '#/commands' }, t('Send a command')));
    });

  const form = h('form', { class: 'panel filters', role: 'search', 'aria-label': t('Find an aggregate') }, field(t('Open by id'), idField), field(t('Aggregate type'), typeField), h('div', { class: 'row filter-buttons' }, h('button', { type: 'submit', class: 'button primary' }, t('Go'))));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (idField.value !== '') {
      go(['aggregates', idField.value]);
      return;
    }
    type = typeField.value.trim();
    note(['aggregates'], { type });
    load();
  });
  load();
  return h('div', null, heading(t('Aggregates'), t('Each is one stream of events. Open one to travel through its past.')), form, list, more);
}
