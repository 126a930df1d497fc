// What the server measures of itself, as curves of the last minutes.

import { address } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { number, seconds } from '../base/format.js';
import { t } from '../base/i18n.js';
import { sample, SAMPLES_MAX, series } from '../base/sampler.js';
import { chartCard } from '../parts/chart.js';
import { heading } from '../parts/controls.js';
import { failure, loading } from '../parts/states.js';

const WIDTH_MIN = 30;
const rate = (value) => (Number.isFinite(value) ? `${number(value)}/s` : '–');
const share = (value) => (Number.isFinite(value) ? `${number(value * 100)} %` : '–');

const charts = () => [
  [t('Events recorded'), rate, [[t('events'), 'events']]],
  [t('Commands'), rate, [[t('all'), 'commands'], [t('accepted'), 'accepted']]],
  [t('Time of a command'), seconds, [['p50', 'command50'], ['p99', 'command99']]],
  [t('Queries'), rate, [[t('all'), 'queries']]],
  [t('Time of a query'), seconds, [['p50', 'query50'], ['p99', 'query99']]],
  [t('HTTP requests'), rate, [[t('all'), 'requests'], ['5xx', 'faults']]],
  [t('Time of a request'), seconds, [['p50', 'http50'], ['p99', 'http99']]],
  [t('Time of a store operation'), seconds, [['p50', 'store50'], ['p99', 'store99']]],
  [t('Lag of projections'), number, [[t('events'), 'lag']]],
  [t('Aggregates in memory'), number, [[t('aggregates'), 'aggregates']]],
  [t('Sagas in flight'), number, [[t('sagas'), 'sagas']]],
  [t('Cache hits'), share, [[t('share'), 'hits']]],
  [t('Lost races'), rate, [[t('conflicts'), 'conflicts']]],
  [t('Connections'), number, [[t('open'), 'connections']]],
  [t('Restarts of actors'), number, [[t('since the start'), 'restarts']]],
];

export async function page({ signal }) {
  const place = h('div', null, loading(t('Two looks are needed for a rate: the first curve begins in a moment.')));
  const cards = charts().map(([title, format, names]) => ({ ...chartCard(title, format), names }));
  const grid = h('div', { class: 'cards charts' }, cards.map(({ card }) => card));
  const draw = () => {
    // A minute has the whole width at first; later, all that is kept.
    const room = Math.min(SAMPLES_MAX, Math.max(WIDTH_MIN, series('events').length));
    for (const { draw: paint, names } of cards) paint(names.map(([name, key]) => ({ name, values: series(key) })), room);
  };
  const told = (ring) => {
    if (ring.length === 0) return;
    if (!grid.isConnected) replace(place, grid);
    draw();
  };
  sample(signal, told, (error) => replace(place, failure(error)));
  const raw = h('a', { class: 'button', href: address('/metrics').href, target: '_blank', rel: 'noopener' }, t('As Prometheus reads them'));
  return h('div', null, heading(t('Metrics'), t('Every two seconds; the last five minutes while this console looks.'), raw), place);
}
