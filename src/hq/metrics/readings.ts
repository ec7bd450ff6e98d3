/** What HQ's /metrics reads from the document of `possync status`: one row per metric, `store` = its code. */
import { known, secondsOf, type Reading, type Sample } from '../../core/metrics.ts';
import { isServing } from '../status.ts';
import type { HqStatusView, HqStoreView, StatusWord } from '../../protocol/status.ts';

const WORDS: readonly StatusWord[] = ['pending_provisioning', 'active', 'offline', 'deactivated'];

type HqReading = Reading<HqStatusView>;
type Labels = Readonly<Record<string, string>>;

const perStore =
  (of: (store: HqStoreView, labels: Labels) => readonly Sample[]) =>
  ({ stores }: HqStatusView): readonly Sample[] =>
    stores.flatMap((store) => of(store, { store: store.code }));

/** A moment of each store. */
const momentOfStore = (name: string, help: string, at: (store: HqStoreView) => string | null): HqReading => ({
  name,
  help,
  labels: ['store'],
  of: perStore((store, labels) => secondsOf(at(store), labels)),
});

/** A number of each store; null = unknown. */
const figureOfStore = (name: string, help: string, of: (store: HqStoreView) => number | null): HqReading => ({
  name,
  help,
  labels: ['store'],
  of: perStore((store, labels) => known(of(store), labels)),
});

export const HQ_READINGS: readonly HqReading[] = [
  {
    name: 'possync_hq_stores',
    help: 'Stores by the word that status has for them.',
    labels: ['state'],
    of: ({ stores }) =>
      WORDS.map((state) => ({
        value: stores.filter((store) => store.status === state).length,
        labels: { state },
      })),
  },
  {
    name: 'possync_hq_store_connected',
    help: '1 while the light of the store is green; only stores that ought to be connected.',
    labels: ['store'],
    of: perStore((store, labels) =>
      isServing(store) ? [{ value: store.connection.indicator === 'green' ? 1 : 0, labels }] : [],
    ),
  },
  {
    name: 'possync_hq_store_problem',
    help: '1 for each reason that status gives: link, halted queue, credential.',
    labels: ['store', 'where', 'code'],
    of: perStore((store, labels) =>
      Object.entries({
        link: isServing(store) ? (store.connection.reason?.code ?? null) : null,
        upstream: store.upstream.halted,
        token: store.token?.warning?.code ?? null,
      }).flatMap(([where, code]) =>
        code === null ? [] : [{ value: 1, labels: { ...labels, where, code } }],
      ),
    ),
  },
  momentOfStore(
    'possync_hq_store_last_seen_timestamp_seconds',
    'When anything last came from the store over its WebSocket.',
    (store) => store.connection.last_frame_at,
  ),
  momentOfStore(
    'possync_hq_store_last_sync_timestamp_seconds',
    'The last success of the store in either direction.',
    (store) => store.last_sync_at,
  ),
  momentOfStore(
    'possync_hq_store_last_sale_timestamp_seconds',
    'When the last sale of the store arrived.',
    (store) => store.last_sale_at,
  ),
  momentOfStore(
    'possync_hq_store_last_z_report_timestamp_seconds',
    'When the last Z report of the store arrived.',
    (store) => store.types.z_report?.last_success_at ?? null,
  ),
  figureOfStore(
    'possync_hq_store_queue_entries',
    'Store transactions that wait in the store, as it last said; while red they can only have grown.',
    (store) => store.upstream.queued,
  ),
  momentOfStore(
    'possync_hq_store_queue_oldest_timestamp_seconds',
    'When the oldest of them was captured; absent while nothing waits.',
    (store) => store.upstream.oldest_at,
  ),
  {
    name: 'possync_hq_store_stalled',
    help: '1 while the store is connected and its queue does not move.',
    labels: ['store'],
    of: perStore((store, labels) => (isServing(store) ? [{ value: store.stalled ? 1 : 0, labels }] : [])),
  },
  figureOfStore(
    'possync_hq_store_parked_records',
    'Entries of the store that HQ could not apply and keeps aside.',
    (store) => store.upstream.parked,
  ),
  figureOfStore(
    'possync_hq_store_findings',
    'What does not add up in what the store sent (possync ledger).',
    (store) => store.findings,
  ),
  figureOfStore(
    'possync_hq_store_cursor_lag',
    "Changes of HQ's feed that the store does not have yet.",
    (store) => store.downstream.pending,
  ),
  momentOfStore(
    'possync_hq_store_token_expiry_timestamp_seconds',
    "When the store's credential ends; absent where it does not.",
    (store) => store.token?.expires_at ?? null,
  ),
  {
    name: 'possync_hq_tls_expiry_timestamp_seconds',
    help: 'When the first of the certificates in use ends; absent without TLS.',
    of: ({ tls }) => secondsOf(tls?.not_after ?? null),
  },
  {
    name: 'possync_hq_ingest_records_total',
    help: 'Records that HQ has taken from its stores, by data type.',
    kind: 'counter',
    labels: ['type', 'result'],
    of: ({ stores }) => {
      const sums = new Map<string, number>();
      for (const { types } of stores)
        for (const [type, { direction, records }] of Object.entries(types))
          if (direction === 'up') sums.set(type, (sums.get(type) ?? 0) + (records ?? 0));
      return [...sums].map(([type, value]) => ({ value, labels: { type, result: 'applied' } }));
    },
  },
  {
    name: 'possync_hq_change_log_seq',
    help: "The end of HQ's feed.",
    of: ({ head }) => known(head),
  },
];
