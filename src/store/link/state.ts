/**
 * The link as a pure state machine: state × event → state + effects. No I/O, no clock, no randomness; the shell in
 * link.ts feeds it facts and carries out what it says. LINK.md lists states, events and invariants.
 *
 *               start                opened               welcomed
 *    ┌──────┐ ───────▶ ┌────────────┐ ─────▶ ┌──────────┐ ───────▶ ┌────────┐
 *    │ idle │          │ connecting │        │ greeting │          │ online │  the only green state
 *    └──────┘ ◀─ stop ─└────────────┘        └──────────┘          └────────┘
 *     (from any state)     ▲      │ failed         │ refused           │ closed
 *                      due │      │ closed         │ closed            │ silent
 *                    hurry │      ▼                ▼ silent            │ fenced
 *                          │   ┌─────────┐                             │
 *                          └───│ waiting │ ◀───────────────────────────┘
 *                              └─────────┘
 *                                polled: both flows run over HTTP, still red
 *
 * `renew` (a new credential, or a person who asks) leads from every state but idle to connecting.
 */
import type { ErrorCode } from '../../core/errors.ts';

export const STATE_NAMES = ['idle', 'connecting', 'greeting', 'online', 'waiting'] as const;
export type StateName = (typeof STATE_NAMES)[number];

/** Who may push: a session is the fence of the last hello that HQ welcomed. */
export type SessionKind = 'none' | 'socket' | 'http';

/**
 * How long to wait before the next attempt: `backoff` = 1 s … 15 s with full jitter, `minutes` = a person has to
 * act at HQ or here first.
 */
export type Pace = 'backoff' | 'minutes';

export interface Reason {
  readonly code: ErrorCode;
  readonly message: string;
}

export interface LinkState {
  readonly name: StateName;
  readonly session: SessionKind;
  /** HQ refused the credential: nothing is asked of it until the next attempt, pulls included. */
  readonly refused: boolean;
  /** Failed attempts since the link was last green for a minute. */
  readonly attempt: number;
  /** Why the link is not green; null while it is, and before the first failure. */
  readonly reason: Reason | null;
}

export interface Failure {
  readonly reason: Reason;
  readonly pace: Pace;
  /** HQ refused the credential or the store (401, 403, 4401, 4403, 4406). */
  readonly refused: boolean;
  /** The far side asked to stay away at least so long (1012, 4429, Retry-After). */
  readonly floorMs: number;
  /** The network works as far as HTTP: worth trying both flows without a WebSocket. */
  readonly httpMayWork: boolean;
}

export type LinkEvent =
  /** There is a credential. */
  | { readonly type: 'start' }
  /** The daemon stops, or there is no credential that may be used; `reason` says why not. */
  | { readonly type: 'stop'; readonly reason?: Reason }
  /** HQ accepted the upgrade. */
  | { readonly type: 'opened' }
  /** HQ answered hello with a fence, and the store took it. */
  | { readonly type: 'welcomed' }
  /** HQ answered hello with a refusal. */
  | ({ readonly type: 'refused' } & Failure)
  /** The attempt ended before the socket was open. */
  | ({ readonly type: 'failed' } & Failure)
  /** The open socket ended. */
  | ({ readonly type: 'closed' } & Failure)
  /** No frame came within the limit. */
  | { readonly type: 'silent' }
  /** The wait is over. */
  | { readonly type: 'due' }
  /** The machine's network changed: worth trying at once. */
  | { readonly type: 'hurry' }
  /** A new credential, or a person asked for a new connection. */
  | { readonly type: 'renew' }
  /** Green for a minute. */
  | { readonly type: 'steady' }
  /** HQ welcomed a hello over HTTP. */
  | { readonly type: 'polled' }
  /** A hello over HTTP failed or was refused. */
  | ({ readonly type: 'unpolled' } & Failure)
  /** HQ answered a push with 409: another session, or other numbers; only a new hello helps. */
  | { readonly type: 'fenced' };

export type EventType = LinkEvent['type'];

export type Effect =
  /** Open a socket. */
  | { readonly do: 'connect' }
  /** Send hello on the open socket. */
  | { readonly do: 'hello' }
  /** Drop the socket of the attempt or of the connection, whatever its state. */
  | { readonly do: 'drop'; readonly why: 'bye' | 'silent' | 'renew' }
  /** Arm the timer of the next attempt. */
  | { readonly do: 'wait'; readonly pace: Pace; readonly attempt: number; readonly floorMs: number }
  | { readonly do: 'cancelWait' }
  /** Say hello over HTTP. */
  | { readonly do: 'poll' }
  /** Tell after a minute of green. */
  | { readonly do: 'expectSteady' }
  /** A session is in force: pull and push now. */
  | { readonly do: 'flow' };

export interface Step {
  readonly state: LinkState;
  readonly effects: readonly Effect[];
}

export const INITIAL: LinkState = { name: 'idle', session: 'none', refused: false, attempt: 0, reason: null };

/** The light: green needs an open socket and an acknowledged hello; silence ends `online` by itself. */
export function indicator(state: LinkState): 'green' | 'red' {
  return state.name === 'online' ? 'green' : 'red';
}

export const SILENT: Reason = { code: 'PS-WS-SILENT', message: 'no frame from HQ for 10 s' };
export const FENCED: Reason = { code: 'PS-FENCED', message: 'another session of this store took over' };

type Handler<E extends EventType> = (state: LinkState, event: Extract<LinkEvent, { type: E }>) => Step;
export type Table = Readonly<Record<StateName, { readonly [E in EventType]: Handler<E> }>>;

const stay = (state: LinkState): Step => ({ state, effects: [] });

const toIdle = (state: LinkState, { reason = null }: { readonly reason?: Reason | null }): Step => ({
  state: { ...INITIAL, attempt: state.attempt, reason },
  effects: [{ do: 'drop', why: 'bye' }, { do: 'cancelWait' }],
});

/** From anywhere, at once and with a clean slate. */
const fresh = (state: LinkState): Step => ({
  state: { ...state, name: 'connecting', session: 'none', refused: false, attempt: 0 },
  effects: [{ do: 'drop', why: 'renew' }, { do: 'cancelWait' }, { do: 'connect' }],
});

/**
 * An attempt or a connection is over: red, and the timer of the next attempt runs.
 *
 * A session by HTTP outlives failed attempts, one by socket ends with its socket. Where HTTP may work and nothing
 * is in force, hello goes that way at once, so that a blocked WebSocket delays nothing.
 */
function toWaiting(state: LinkState, failure: Failure, dropped: readonly Effect[]): Step {
  const attempt = state.attempt + 1;
  const session = state.session === 'http' && !failure.refused ? 'http' : 'none';
  const poll = session === 'none' && failure.httpMayWork && !failure.refused && failure.pace === 'backoff';
  return {
    state: { name: 'waiting', session, refused: failure.refused, attempt, reason: failure.reason },
    effects: [
      ...dropped,
      { do: 'wait', pace: failure.pace, attempt, floorMs: failure.floorMs },
      ...(poll ? [{ do: 'poll' } as const] : []),
    ],
  };
}

const silence = (httpMayWork: boolean): Failure => ({
  reason: SILENT,
  pace: 'backoff',
  refused: false,
  floorMs: 0,
  httpMayWork,
});

const DROP_SILENT: readonly Effect[] = [{ do: 'drop', why: 'silent' }];
const DROP_BYE: readonly Effect[] = [{ do: 'drop', why: 'bye' }];

/** Total by type: a new state or event does not compile before every cell says what it means. */
export const TABLE: Table = {
  idle: {
    start: (state) => ({ state: { ...state, name: 'connecting' }, effects: [{ do: 'connect' }] }),
    stop: (state, { reason }) => (reason === undefined ? stay(state) : toIdle(state, { reason })),
    opened: stay,
    welcomed: stay,
    refused: stay,
    failed: stay,
    closed: stay,
    silent: stay,
    due: stay,
    hurry: stay,
    renew: stay,
    steady: stay,
    polled: stay,
    unpolled: stay,
    fenced: stay,
  },
  connecting: {
    start: stay,
    stop: toIdle,
    opened: (state) => ({ state: { ...state, name: 'greeting' }, effects: [{ do: 'hello' }] }),
    welcomed: stay,
    refused: (state, event) => toWaiting(state, event, DROP_BYE),
    failed: (state, event) => toWaiting(state, event, []),
    closed: (state, event) => toWaiting(state, event, []),
    // Nothing came back within the time of an attempt: a black hole, where HTTP would vanish too.
    silent: (state) => toWaiting(state, silence(false), DROP_SILENT),
    due: stay,
    // The attempt may hang in the network that was there before: a new one is a new route.
    hurry: (state) => ({ state, effects: [{ do: 'drop', why: 'renew' }, { do: 'connect' }] }),
    renew: fresh,
    steady: stay,
    polled: (state) => ({ state: { ...state, session: 'http', refused: false }, effects: [{ do: 'flow' }] }),
    unpolled: stay,
    fenced: (state) => ({ state: { ...state, session: 'none' }, effects: [] }),
  },
  greeting: {
    start: stay,
    stop: toIdle,
    opened: stay,
    welcomed: (state) => ({
      state: { ...state, name: 'online', session: 'socket', refused: false, reason: null },
      effects: [{ do: 'expectSteady' }, { do: 'flow' }],
    }),
    refused: (state, event) => toWaiting(state, event, DROP_BYE),
    // hello could not be made here (our own database): the socket is of no use.
    failed: (state, event) => toWaiting(state, event, DROP_BYE),
    closed: (state, event) => toWaiting(state, event, []),
    // The upgrade worked and then nothing passes: a box on the path swallows frames, HTTP often works.
    silent: (state) => toWaiting(state, silence(true), DROP_SILENT),
    due: stay,
    hurry: (state) => ({
      state: { ...state, name: 'connecting' },
      effects: [{ do: 'drop', why: 'renew' }, { do: 'connect' }],
    }),
    renew: fresh,
    steady: stay,
    polled: stay,
    unpolled: stay,
    fenced: (state) => ({ state: { ...state, session: 'none' }, effects: [] }),
  },
  online: {
    start: stay,
    stop: toIdle,
    opened: stay,
    welcomed: stay,
    refused: (state, event) => toWaiting(state, event, DROP_BYE),
    failed: stay,
    closed: (state, event) => toWaiting(state, event, []),
    silent: (state) => toWaiting(state, silence(false), DROP_SILENT),
    due: stay,
    // The old way may still carry the link; if not, silence tells within seconds.
    hurry: stay,
    renew: fresh,
    steady: (state) => ({ state: { ...state, attempt: 0 }, effects: [] }),
    polled: stay,
    unpolled: stay,
    fenced: (state) => toWaiting(state, { ...silence(false), reason: FENCED }, DROP_BYE),
  },
  waiting: {
    start: stay,
    stop: toIdle,
    opened: stay,
    welcomed: stay,
    refused: stay,
    failed: stay,
    closed: stay,
    silent: stay,
    due: (state) => ({
      state: { ...state, name: 'connecting', refused: false },
      effects: [{ do: 'connect' }],
    }),
    // A person has to act first where HQ refused: a network that flaps must not turn minutes into seconds.
    hurry: (state) =>
      state.refused
        ? stay(state)
        : {
            state: { ...state, name: 'connecting', attempt: 0 },
            effects: [{ do: 'cancelWait' }, { do: 'connect' }],
          },
    renew: fresh,
    steady: stay,
    polled: (state) => ({ state: { ...state, session: 'http', refused: false }, effects: [{ do: 'flow' }] }),
    unpolled: (state, event) =>
      event.refused || event.pace === 'minutes'
        ? {
            state: { ...state, session: 'none', refused: event.refused, reason: event.reason },
            effects: [
              { do: 'cancelWait' },
              { do: 'wait', pace: event.pace, attempt: state.attempt, floorMs: event.floorMs },
            ],
          }
        : stay(state),
    fenced: (state) =>
      state.session === 'http'
        ? { state: { ...state, session: 'none' }, effects: [{ do: 'poll' }] }
        : { state: { ...state, session: 'none' }, effects: [] },
  },
};

/** The next state and what to do; the cast only says that the handler of an event's type takes that event. */
export function step(state: LinkState, event: LinkEvent): Step {
  const handler = TABLE[state.name][event.type] as (state: LinkState, event: LinkEvent) => Step;
  return handler(state, event);
}
