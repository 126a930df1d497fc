// Numbers, instants and ids as people read them. Instants are in UTC, as in the log.

import { t } from './i18n.js';
import { Digits } from './json.js';
import { session } from './session.js';

const locale = () => (session.language === 'ja' ? 'ja-JP' : 'en-GB');

export function number(value) {
  if (value instanceof Digits) return /^-?\d+$/.test(value.source) ? BigInt(value.source).toLocaleString(locale()) : value.source;
  if (typeof value !== 'number' || !Number.isFinite(value)) return '–';
  return value.toLocaleString(locale(), { maximumFractionDigits: Math.abs(value) < 10 ? 2 : 1 });
}

/** A number of somebody's data: every digit, integers in groups. */
export const exactNumber = (value) => (value instanceof Digits || Number.isSafeInteger(value) ? number(value) : String(value));

/** A change of a number, with its sign. */
export function delta(from, to) {
  const [a, b] = [exact(from), exact(to)];
  if (a === null || b === null || typeof a !== typeof b) return null;
  const change = b - a;
  if (change === 0 || change === 0n) return null;
  return `${change > 0 ? '+' : '−'}${number(typeof change === 'bigint' ? new Digits(String(change < 0n ? -change : change)) : Math.abs(change))}`;
}

function exact(value) {
  const text = value instanceof Digits ? value.source : typeof value === 'number' ? String(value) : '';
  return /^-?\d+$/.test(text) ? BigInt(text) : typeof value === 'number' ? value : null;
}

export function seconds(given) {
  if (given === null || given === undefined) return '–';
  const value = Number(given);
  if (!Number.isFinite(value)) return '–';
  if (value === 0) return '0 s';
  if (value < 0.001) return `${number(value * 1e6)} µs`;
  if (value < 1) return `${number(Math.round(value * 1e5) / 100)} ms`;
  if (value < 120) return `${number(Math.round(value * 10) / 10)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 172800) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86400)} d`;
}

/** Counts in words, since one of something has another word in English. */
export const eventCount = (count) => t(count === 1 ? '1 event' : '{count} events', { count: number(count) });

/** `14:03:01.123`, from an instant of the API. */
export const clock = (instant) => (instant ? instant.slice(11, 23).replace(/Z$/, '') : '–');

/** `2026-11-26 14:03:01.123`. */
export const dateTime = (instant) => (instant ? `${instant.slice(0, 10)} ${clock(instant)}` : '–');

/** How long ago, or how long until. */
export function ago(instant, now = Date.now()) {
  const distance = (now - Date.parse(instant)) / 1000;
  if (!Number.isFinite(distance)) return '–';
  const unit = Math.abs(distance) < 60 ? ['second', 1] : Math.abs(distance) < 3600 ? ['minute', 60] : Math.abs(distance) < 86400 ? ['hour', 3600] : ['day', 86400];
  return new Intl.RelativeTimeFormat(locale(), { numeric: 'auto', style: 'short' }).format(-Math.round(distance / unit[1]), unit[0]);
}

/** A UUID in short; other ids as they are. */
export const shortId = (id) => (/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(id) ? `${id.slice(0, 8)}…${id.slice(-4)}` : id);

/** What a `datetime-local` field takes, of an instant in UTC. */
export const toField = (instant) => (instant ? instant.slice(0, 23).replace(/Z$/, '') : '');

/** The instant a `datetime-local` field names, in UTC. */
export const fromField = (text) => (text ? `${text.length === 16 ? `${text}:00` : text}Z` : '');

/** Chosen so that what adds and what takes away, what went well and what was refused, do not look the other way round. */
const HUE_SEED = 216034;

/** A stable hue for a name, so that a type has its colour everywhere. */
export function hue(name) {
  let hash = HUE_SEED;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 16777619) >>> 0;
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) >>> 0;
  return (((hash ^ (hash >>> 13)) >>> 0) % 12) + 1;
}
