// Long-running transactions: which there are.

import { get } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { ago } from '../base/format.js';
import { t } from '../base/i18n.js';
import { link, note } from '../base/router.js';
import { badge, button, field, heading, input, select, table } from '../parts/controls.js';
import { empty, failure, show } from '../parts/states.js';
import { shortId } from '../base/format.js';

const PAGE = 100;
const STATUSES = ['running', 'compensating', 'completed', 'compensated', 'failed'];

export async function page({ query, signal }) {
  const filters = { status: query.get('status') ?? '', saga_type: query.get('saga_type') ?? '' };
  const list = h('div');
  const more = h('div', { class: 'row row-center' });
  const statusField = select([['', t('any')], ...STATUSES.map((status) => [status, t(status)])], filters.status);
  const typeField = input({ value: filters.saga_type });

  const row = (saga) =>
    h(
      'tr',
      { 'data-status': saga.status },
      h('th', { scope: 'row' }, h('a', { class: 'mono nowrap', href: link(['sagas', saga.saga_id]), title: saga.saga_id }, shortId(saga.saga_id))),
      h('td', null, saga.saga_type),
      h('td', null, badge(saga.status)),
      h('td', { class: 'nowrap', title: saga.started_at }, ago(saga.started_at)),
      h('td', { class: 'nowrap', title: saga.updated_at }, ago(saga.updated_at)),
      h('td', { class: saga.reason ? 'reason' : '' }, saga.reason?.message ?? ''),
    );

  async function rows(cursor) {
    const { items, next_cursor: next } = await get('/api/v1/sagas', { ...filters, cursor, limit: PAGE }, signal);
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

  const load = () => {
    filters.status = statusField.value;
    filters.saga_type = typeField.value.trim();
    note(['sagas'], filters);
    return show(list, signal, async () => {
      const found = await rows();
      if (found.length > 0) return table(t('Sagas'), [[t('Id')], [t('Type')], [t('Status')], [t('Started')], [t('Changed')], [t('Reason')]], found).frame;
      const isFiltered = filters.status !== '' || filters.saga_type !== '';
      if (isFiltered) return empty(t('No saga passes these filters'), t('Choose another status or type.'));
      return empty(t('No saga has run yet'), t('A transfer between two accounts is one.'), h('a', { class: 'button primary', href: link(['commands'], { kind: 'saga' }) }, t('Start a saga')));
    });
  };

  const form = h('form', { class: 'panel filters', role: 'search', 'aria-label': t('Filter sagas') }, field(t('Status'), statusField), field(t('Type'), typeField), h('div', { class: 'row filter-buttons' }, h('button', { type: 'submit', class: 'button primary' }, t('Filter'))));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    load();
  });
  statusField.addEventListener('change', load);
  load();
  const start = h('a', { class: 'button primary', href: link(['commands'], { kind: 'saga' }) }, t('Start a saga'));
  return h('div', null, heading(t('Sagas'), t('Transactions over several aggregates: each step done, or all of them undone.'), start), form, list, more);
}
