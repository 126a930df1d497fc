// The last minutes of `/metrics`: a bounded ring, filled while a page looks at it.

import { getText, poll } from './api.js';
import { buckets, parseMetrics, quantile, sum } from './prometheus.js';

export const SAMPLES_MAX = 150;
const PAUSE_MS = 2_000;

const WANTED = new Set([
  'es_events_appended_total', 'es_command_duration_seconds', 'es_query_duration_seconds', 'es_http_request_duration_seconds',
  'es_store_operation_duration_seconds', 'es_projection_lag_events', 'es_active_aggregates', 'es_sagas_in_flight',
  'es_http_connections', 'es_cache_requests_total', 'es_store_conflicts_total', 'es_actor_restarts_total', 'es_sagas_started_total',
]);
const HISTOGRAMS = ['es_command_duration_seconds', 'es_query_duration_seconds', 'es_http_request_duration_seconds', 'es_store_operation_duration_seconds'];

let before = null;
const ring = [];

const isAccepted = (labels) => labels.get('outcome') === 'accepted';
const isHit = (labels) => labels.get('result') === 'hit';
const isAsked = (labels) => ['hit', 'miss'].includes(labels.get('result'));
const isFault = (labels) => (labels.get('status') ?? '').startsWith('5');

function look(text) {
  const samples = parseMetrics(text, WANTED);
  return { at: performance.now() / 1000, samples, histograms: new Map(HISTOGRAMS.map((name) => [name, buckets(samples, name)])) };
}

function between(old, now) {
  const elapsed = now.at - old.at;
  const rate = (name, passes) => Math.max(0, sum(now.samples, name, passes) - sum(old.samples, name, passes)) / elapsed;
  const percentile = (name, share) => quantile(old.histograms.get(name), now.histograms.get(name), share);
  const asked = rate('es_cache_requests_total', isAsked);
  return {
    events: rate('es_events_appended_total'),
    commands: rate('es_command_duration_seconds_count'),
    accepted: rate('es_command_duration_seconds_count', isAccepted),
    command50: percentile('es_command_duration_seconds', 0.5),
    command99: percentile('es_command_duration_seconds', 0.99),
    queries: rate('es_query_duration_seconds_count'),
    query50: percentile('es_query_duration_seconds', 0.5),
    query99: percentile('es_query_duration_seconds', 0.99),
    requests: rate('es_http_request_duration_seconds_count'),
    faults: rate('es_http_request_duration_seconds_count', isFault) || 0,
    http50: percentile('es_http_request_duration_seconds', 0.5),
    http99: percentile('es_http_request_duration_seconds', 0.99),
    store50: percentile('es_store_operation_duration_seconds', 0.5),
    store99: percentile('es_store_operation_duration_seconds', 0.99),
    conflicts: rate('es_store_conflicts_total'),
    hits: asked > 0 ? rate('es_cache_requests_total', isHit) / asked : NaN,
    lag: sum(now.samples, 'es_projection_lag_events'),
    aggregates: sum(now.samples, 'es_active_aggregates'),
    sagas: sum(now.samples, 'es_sagas_in_flight'),
    connections: sum(now.samples, 'es_http_connections'),
    restarts: sum(now.samples, 'es_actor_restarts_total'),
  };
}

/** Looks every two seconds until the signal ends it; `told` hears the ring, or why there is none. */
export const sample = (signal, told, failed) =>
  poll(PAUSE_MS, signal, async () => {
    try {
      const now = look(await getText('/metrics', undefined, signal));
      if (before && now.at - before.at < PAUSE_MS * 5 / 1000) ring.push(between(before, now));
      if (ring.length > SAMPLES_MAX) ring.shift();
      before = now;
      told(ring);
    } catch (error) {
      if (!signal.aborted) failed(error);
    }
  });

/** One measurement over time. */
export const series = (name) => ring.map((entry) => entry[name]);
