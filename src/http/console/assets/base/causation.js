// What led to what: the events of one correlation, joined by the ids in their metadata.

/** Lanes: one per stream, in order of appearance; the request is before them all. */
export function causation(events) {
  const ordered = [...events].sort((a, b) => a.position - b.position);
  const byEvent = new Map(ordered.map((event) => [event.event_id, event]));
  const types = new Map();
  const issuers = new Map();
  for (const { data, event_id } of ordered) {
    if (typeof data?.command_id !== 'string' || typeof data?.command_type !== 'string') continue;
    types.set(data.command_id, data.command_type);
    issuers.set(data.command_id, event_id);
  }
  const lanes = new Map();
  const requests = new Map();
  const nodes = new Map();
  const edges = [];
  const commands = new Map();
  ordered.forEach((event, column) => {
    const { aggregate_id: id, aggregate_type: type } = event;
    if (!lanes.has(id)) lanes.set(id, { id, type, row: lanes.size });
    nodes.set(event.event_id, { event, column, row: lanes.get(id).row });
    const { command_id: command, causation_id: named } = event.metadata ?? {};
    // A command that was refused left no event to name; what tells of it knows which command it was.
    const cause = named ?? issuers.get(event.data?.command_id);
    const sibling = command ? commands.get(command) : undefined;
    if (command) commands.set(command, event.event_id);
    if (sibling) {
      // What one command recorded came by one cause: one edge is enough, the others hang together with it.
      edges.push({ from: sibling, to: event.event_id, isTogether: true, command: null });
      return;
    }
    if (!cause || cause === event.event_id) return;
    if (!byEvent.has(cause) && !requests.has(cause)) requests.set(cause, { id: cause, row: requests.size });
    edges.push({ from: cause, to: event.event_id, isTogether: false, command: types.get(command) ?? null });
  });
  return { lanes: [...lanes.values()], requests: [...requests.values()], nodes: [...nodes.values()], edges };
}
