// Evidence, checked in this browser: an event's leaf from its very bytes, the way from the leaf to the root, and the
// root against the signed checkpoint (docs/evidence.md). Nothing of the server's own verdict is used.

import { parse, rawMembers } from './json.js';

const encoder = new TextEncoder();

async function sha256(...parts) {
  const bytes = joined(parts);
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function word64(value) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt(value));
  return bytes;
}

function word32(value) {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

const sized = (text) => {
  const bytes = encoder.encode(text);
  return joined([word64(bytes.length), bytes]);
};
export const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const unbase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** Microseconds since 1970 of an instant of the API, which has more digits than a JavaScript date keeps. */
function microseconds(instant) {
  const [, whole, fraction] = /^(.*?)\.(\d+)Z$/.exec(instant) ?? [null, instant.replace(/Z$/, ''), ''];
  return BigInt(Date.parse(`${whole}Z`)) * 1000n + BigInt((fraction ?? '').padEnd(6, '0').slice(0, 6));
}

/** The text of the one event in a page of the log. */
function eventText(page) {
  const members = rawMembers(page);
  const list = members.get('events');
  const start = list.indexOf('{');
  if (start < 0) throw new Error('there is no event at this position');
  return list.slice(start);
}

/** An event's checksum and leaf, from the text of a page of the log that begins with it. */
export async function leafOf(page) {
  const members = rawMembers(eventText(page));
  const value = (name) => parse(members.get(name));
  const checksum = await sha256(
    encoder.encode('event-sourcing-cqrs/event/v1'),
    sized(value('aggregate_id')),
    sized(value('aggregate_type')),
    sized(value('event_type')),
    word64(value('sequence')),
    unhex(value('event_id').replaceAll('-', '')),
    word32(value('schema_version')),
    await sha256(encoder.encode(members.get('data'))),
    await sha256(encoder.encode(members.get('metadata'))),
  );
  const leaf = await sha256(Uint8Array.of(0), word64(value('position')), word64(microseconds(value('recorded_at'))), checksum);
  return { position: value('position'), type: value('event_type'), aggregate: value('aggregate_id'), claimed: value('checksum'), checksum: hex(checksum), leaf };
}

/** The root that a proof leads to (RFC 9162, 2.1.3.2), with each step. */
export async function rootOf(leaf, index, size, hashes) {
  let [at, last, root] = [BigInt(index), BigInt(size) - 1n, leaf];
  const steps = [];
  for (const text of hashes) {
    if (last === 0n) throw new Error('the proof is too long');
    const sibling = unhex(text);
    const isRight = (at & 1n) === 1n || at === last;
    root = isRight ? await sha256(Uint8Array.of(1), sibling, root) : await sha256(Uint8Array.of(1), root, sibling);
    steps.push({ side: isRight ? 'left' : 'right', sibling: text, root: hex(root) });
    if (isRight) {
      while ((at & 1n) === 0n && at !== 0n) [at, last] = [at >> 1n, last >> 1n];
    }
    [at, last] = [at >> 1n, last >> 1n];
  }
  if (last !== 0n) throw new Error('the proof is too short');
  return { root, steps };
}

/** A signed note: origin, size, root, signatures. */
export function parseNote(note) {
  const end = note.indexOf('\n\n');
  const [origin, size, root] = note.slice(0, end).split('\n');
  const signatures = note.slice(end + 2).trim().split('\n').map((line) => line.split(' ')).map(([, name, signature]) => ({ name, signature }));
  return { origin, size: Number(size), root, signatures, text: note.slice(0, end + 1) };
}

/** Whether a note is signed by one of these keys; null when this browser knows no Ed25519. */
export async function isSigned(note, keys) {
  const { signatures, text } = parseNote(note);
  for (const line of keys.trim().split('\n')) {
    // A name may hold a plus sign no more than a key's id may: the first two split the line.
    const [name, id, ...rest] = line.split('+');
    const key = unbase64(rest.join('+')).slice(1);
    for (const { name: signer, signature } of signatures) {
      const bytes = unbase64(signature);
      if (signer !== name || hex(bytes.slice(0, 4)) !== id) continue;
      try {
        const imported = await crypto.subtle.importKey('raw', key, { name: 'Ed25519' }, false, ['verify']);
        if (await crypto.subtle.verify('Ed25519', imported, bytes.slice(4), encoder.encode(text))) return true;
      } catch {
        return null;
      }
    }
  }
  return false;
}

export const rootText = (note) => hex(unbase64(parseNote(note).root));
