// What the OpenAPI document says about bodies: the variants of a request, found by their discriminator.

import { get } from './api.js';

let loaded = null;

/** The document, once; null where this build has none. */
export function openapi(signal) {
  loaded ??= get('/api/v1/openapi.json', undefined, signal).catch((error) => {
    loaded = null;
    if (error.status === 404) return null;
    throw error;
  });
  return loaded;
}

const REFERENCES_MAX = 32;

/** Follows references within the document. */
export function resolve(document, schema) {
  let found = schema;
  for (let steps = 0; found?.$ref !== undefined && steps < REFERENCES_MAX; steps += 1) {
    if (!found.$ref.startsWith('#/')) return {};
    const path = found.$ref.slice(2).split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    const { $ref, ...beside } = found;
    found = { ...path.reduce((inner, part) => inner?.[part], document), ...beside };
  }
  if (Array.isArray(found?.allOf)) {
    const parts = found.allOf.map((part) => resolve(document, part));
    return parts.reduce((all, part) => ({ ...all, ...part, properties: { ...all.properties, ...part.properties }, required: [...(all.required ?? []), ...(part.required ?? [])] }), found);
  }
  // "This, or null" is this, left empty.
  const choices = (found?.anyOf ?? found?.oneOf ?? []).filter((choice) => choice.type !== 'null');
  if (choices.length === 1 && found.type === undefined) return resolve(document, { ...found, anyOf: undefined, oneOf: undefined, ...choices[0] });
  return found ?? {};
}

/** The variants of a POST body by name: `Map(name → schema)`, empty when there are none. */
export function variants(document, path, property) {
  const body = resolve(document, document?.paths?.[path]?.post?.requestBody);
  const schema = resolve(document, body?.content?.['application/json']?.schema);
  const found = new Map();
  for (const part of schema?.oneOf ?? schema?.anyOf ?? []) {
    const one = resolve(document, part);
    const tag = resolve(document, one.properties?.[property]);
    const mapped = Object.entries(schema.discriminator?.mapping ?? {}).find(([, reference]) => reference === part.$ref || reference === part.$ref?.split('/').at(-1));
    const name = tag?.const ?? tag?.enum?.[0] ?? mapped?.[0];
    if (typeof name === 'string') found.set(name, one);
  }
  return found;
}

/** The aggregate type a command's schema is for, or the projection a query's is. */
export const groupOf = (document, schema) => schema['x-aggregate-type'] ?? resolve(document, schema.properties?.projection).const ?? '';

/** The types of events that are known by name. */
export function eventTypes(document) {
  const parts = document.components?.schemas?.Event?.oneOf ?? [];
  return parts.map((part) => resolve(document, resolve(document, part).properties?.event_type).const).filter(Boolean).sort();
}

/** The types of aggregates that take commands, and that of sagas. */
export function aggregateTypes(document) {
  const commands = [...variants(document, '/api/v1/commands', 'command_type').values()];
  return [...new Set([...commands.map((schema) => groupOf(document, schema)), 'saga'])].filter(Boolean).sort();
}
