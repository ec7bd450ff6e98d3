/** What HQ's /metrics reads from the document of `possync status`: one row per metric, `store` = its code. */
import { known, secondsOf, type Reading, type Sample } from '../../core/metrics.ts';
import { isServing } from '../status.ts';
import type { HqStatusView, HqStoreView, StatusWord } from '../../protocol/status.ts';

const WORDS: readonly StatusWord[] = ['pending_provisioning', 'active', 'offline', 'deactivated'];

type Labels = Readonly<Record<string, string>>;

const perStore =
  (of: (store: HqStoreView, labels: Labels) => readonly Sample[]) =>
  ({ stores }: HqStatusView): readonly Sample[] =>
    stores.flatMap((store) => of(store, { store: store.code }));

export const HQ_READINGS: readonly Reading<HqStatusView>[] = [
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
  {
    name: 'possync_hq_store_last_seen_timestamp_seconds',
    help: 'When anything last came from the store over its WebSocket.',
    labels: ['store'],
    of: perStore((store, labels) => secondsOf(store.connection.last_frame_at, labels)),
  },
  {
    name: 'possync_hq_store_last_sync_timestamp_seconds',
    help: 'The last success of the store in either direction.',
    labels: ['store'],
    of: perStore((store, labels) => secondsOf(store.last_sync_at, labels)),
  },
  {
    name: 'possync_hq_store_last_sale_timestamp_seconds',
    help: 'When the last sale of the store arrived.',
    labels: ['store'],
    of: perStore((store, labels) => secondsOf(store.last_sale_at, labels)),
  },
  {
    name: 'possync_hq_store_last_z_report_timestamp_seconds',
    help: 'When the last Z report of the store arrived.',
    labels: ['store'],
    of: perStore((store, labels) => secondsOf(store.types.z_report?.last_success_at ?? null, labels)),
  },
  {
    name: 'possync_hq_store_queue_entries',
    help: 'Store transactions that wait in the store, as it last said; while red they can only have grown.',
    labels: ['store'],
    of: perStore((store, labels) => known(store.upstream.queued, labels)),
  },
  {
    name: 'possync_hq_store_queue_oldest_timestamp_seconds',
    help: 'When the oldest of them was captured; absent while nothing waits.',
    labels: ['store'],
    of: perStore((store, labels) => secondsOf(store.upstream.oldest_at, labels)),
  },
  {
    name: 'possync_hq_store_stalled',
    help: '1 while the store is connected and its queue does not move.',
    labels: ['store'],
    of: perStore((store, labels) => (isServing(store) ? [{ value: store.stalled ? 1 : 0, labels }] : [])),
  },
  {
    name: 'possync_hq_store_parked_records',
    help: 'Entries of the store that HQ could not apply and keeps aside.',
    labels: ['store'],
    of: perStore((store, labels) => known(store.upstream.parked, labels)),
  },
  {
    name: 'possync_hq_store_findings',
    help: 'What does not add up in what the store sent (possync ledger).',
    labels: ['store'],
    of: perStore((store, labels) => known(store.findings, labels)),
  },
  {
    name: 'possync_hq_store_cursor_lag',
    help: "Changes of HQ's feed that the store does not have yet.",
    labels: ['store'],
    of: perStore((store, labels) => known(store.downstream.pending, labels)),
  },
  {
    name: 'possync_hq_store_token_expiry_timestamp_seconds',
    help: "When the store's credential ends; absent where it does not.",
    labels: ['store'],
    of: perStore((store, labels) => secondsOf(store.token?.expires_at ?? null, labels)),
  },
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
