/** What a store's /metrics reads from the document of `possync status`: one row per metric. */
import { known, secondsOf, type Reading, type Sample } from '../../core/metrics.ts';
import type { ReasonView, StoreStatusView } from '../../protocol/status.ts';

const flag = (yes: boolean): Sample[] => [{ value: yes ? 1 : 0 }];

export const STORE_READINGS: readonly Reading<StoreStatusView>[] = [
  {
    name: 'possync_ws_connected',
    help: '1 while the light is green: socket open, hello acknowledged, a frame within 10 s.',
    of: ({ connection }) => flag(connection.indicator === 'green'),
  },
  {
    name: 'possync_ws_last_frame_timestamp_seconds',
    help: 'When anything last came from HQ over the WebSocket.',
    of: ({ connection }) => secondsOf(connection.last_frame_at),
  },
  {
    name: 'possync_problem',
    help: '1 for everything that status gives a reason for; explain CODE says what to do.',
    labels: ['where', 'code'],
    of: (view) =>
      Object.entries(problemsOf(view)).flatMap(([where, reason]) =>
        reason === null ? [] : [{ value: 1, labels: { where, code: reason.code } }],
      ),
  },
  {
    name: 'possync_queue_entries',
    help: 'Store transactions: queued = HQ has not acknowledged them, parked = HQ keeps them aside.',
    labels: ['state'],
    of: ({ upstream }) => [
      { value: upstream.queued, labels: { state: 'queued' } },
      { value: upstream.parked, labels: { state: 'parked' } },
    ],
  },
  {
    name: 'possync_queue_high_priority_entries',
    help: 'Of the queued ones, those that do not wait for the next tick.',
    of: ({ upstream }) => known(upstream.queued_high),
  },
  {
    name: 'possync_queue_records',
    help: 'Queued records by data type (a sale with its lines is one); an entry may hold several.',
    labels: ['type'],
    of: ({ upstream }) =>
      Object.entries(upstream.by_type).map(([type, value]) => ({ value, labels: { type } })),
  },
  {
    name: 'possync_queue_bytes',
    help: 'Size of what is queued.',
    of: ({ upstream }) => known(upstream.bytes),
  },
  {
    name: 'possync_queue_oldest_timestamp_seconds',
    help: 'When the oldest queued entry was captured; absent while nothing is queued.',
    of: ({ upstream }) => secondsOf(upstream.oldest_at),
  },
  {
    name: 'possync_push_last_success_timestamp_seconds',
    help: 'When HQ last acknowledged a batch.',
    of: ({ upstream }) => secondsOf(upstream.last_sent_at),
  },
  {
    name: 'possync_push_records_total',
    help: 'Records that HQ has acknowledged, by data type.',
    kind: 'counter',
    labels: ['type', 'result'],
    of: ({ types }) =>
      Object.entries(types).flatMap(([type, { direction, records }]) =>
        direction === 'down' || records === null
          ? []
          : [{ value: records, labels: { type, result: 'acknowledged' } }],
      ),
  },
  {
    name: 'possync_pull_cursor',
    help: "Position in HQ's feed up to which everything is in place here.",
    of: ({ downstream }) => known(downstream.cursor),
  },
  {
    name: 'possync_pull_hq_cursor',
    help: "The end of HQ's feed, as HQ last said; absent while disconnected.",
    of: ({ downstream }) => known(downstream.hq_cursor),
  },
  {
    name: 'possync_pull_last_applied_timestamp_seconds',
    help: 'When a change of HQ was last put in place.',
    of: ({ downstream }) => secondsOf(downstream.last_applied_at),
  },
  {
    name: 'possync_last_sync_timestamp_seconds',
    help: 'The last success in either direction.',
    of: (view) => secondsOf(view.last_sync_at),
  },
  {
    name: 'possync_token_expiry_timestamp_seconds',
    help: 'When the credential ends; absent where it does not.',
    of: ({ token }) => secondsOf(token?.expires_at ?? null),
  },
  {
    name: 'possync_tls_expiry_timestamp_seconds',
    help: "When HQ's certificate ends, as this store saw it last.",
    labels: ['host'],
    of: ({ tls, hq }) => secondsOf(tls?.not_after ?? null, { host: hostOf(hq.url) }),
  },
  {
    name: 'possync_clock_skew_seconds',
    help: "HQ's clock minus this machine's; absent while it is not known.",
    of: ({ clock }) => known(clock.skew_ms === null ? null : clock.skew_ms / 1_000),
  },
];

function problemsOf(view: StoreStatusView): Record<string, ReasonView | null> {
  return {
    link: view.connection.reason,
    upstream: view.upstream.halted,
    downstream: view.downstream.error,
    database: view.database.reason,
    token: view.token?.warning ?? null,
    tls: view.tls?.warning ?? null,
    clock: view.clock.warning,
  };
}

function hostOf(url: string | null): string {
  return url !== null && URL.canParse(url) ? new URL(url).hostname : '';
}
