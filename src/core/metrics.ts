/**
 * Prometheus metrics of one process: events are counted as they happen, everything else is read from the document of
 * `possync status` at each scrape, so that no two surfaces can disagree.
 *
 * Labels are bounded by what the product has (codes, types, states) and at HQ by the fleet; never a key, a kid or an
 * address. What is unknown is a series that is not there, never a 0.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { VERSION } from './version.ts';

export interface Sample {
  readonly value: number;
  readonly labels?: Readonly<Record<string, string>>;
}

/** One metric that is read from the document. */
export interface Reading<View> {
  readonly name: string;
  readonly help: string;
  readonly kind?: 'gauge' | 'counter';
  readonly labels?: readonly string[];
  readonly of: (view: View) => readonly Sample[];
}

/** One that is known without the document. */
export interface Live extends Omit<Reading<never>, 'of'> {
  readonly of: () => Promise<readonly Sample[]> | readonly Sample[];
}

export interface MetricsOptions<View> {
  readonly role: 'hq' | 'store';
  readonly readings: readonly Reading<View>[];
  readonly read: () => Promise<View>;
}

/** Of a question to a database or over a line: from a millisecond to the longest that anybody waits. */
const SECONDS = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 120];

export class Metrics<View> {
  readonly #registry = new Registry();
  readonly #read: () => Promise<View>;
  readonly #taken: readonly { readonly reading: Reading<View>; readonly metric: Gauge | Counter }[];
  readonly #databaseUp: Gauge;
  /** Scrapes wait for each other: one that clears must not meet one that writes. */
  #line: Promise<unknown> = Promise.resolve();

  constructor({ role, readings, read }: MetricsOptions<View>) {
    this.#read = read;
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    new Gauge({
      name: 'possync_build_info',
      help: 'Always 1; the labels say what runs.',
      labelNames: ['version', 'node', 'role'],
      registers,
    }).set({ version: VERSION, node: process.versions.node, role }, 1);
    this.#databaseUp = new Gauge({
      name: 'possync_db_up',
      help: '1 while the database of this side answers and captures what is written.',
      registers,
    });
    this.#taken = readings.map((reading) => {
      const { name, help, labels = [] } = reading;
      const spec = { name, help, labelNames: labels, registers };
      return { reading, metric: reading.kind === 'counter' ? new Counter(spec) : new Gauge(spec) };
    });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  counter<L extends string>(name: string, help: string, labels: readonly L[] = []): Counter<L> {
    return new Counter({ name, help, labelNames: labels, registers: [this.#registry] });
  }

  /** One that is read at each scrape although the document cannot be; what cannot be told is left out. */
  live({ name, help, kind, labels = [], of }: Live): void {
    async function collect(this: Gauge | Counter): Promise<void> {
      this.reset();
      const samples = await Promise.resolve(of()).catch(() => []);
      if (samples.length === 0) this.remove({});
      for (const sample of samples) this.inc(sample.labels ?? {}, sample.value);
    }
    const spec = { name, help, labelNames: labels, registers: [this.#registry], collect };
    if (kind === 'counter') new Counter(spec);
    else new Gauge(spec);
  }

  histogram<L extends string>(name: string, help: string, labels: readonly L[] = []): Histogram<L> {
    return new Histogram({ name, help, labelNames: labels, buckets: SECONDS, registers: [this.#registry] });
  }

  /** The exposition; where the document cannot be read it has the counted half, and possync_db_up is 0. */
  async text(isUp: (view: View) => boolean): Promise<string> {
    const turn = this.#line.then(async () => {
      const view = await this.#read().catch(() => undefined);
      this.#databaseUp.set(view !== undefined && isUp(view) ? 1 : 0);
      for (const { reading, metric } of this.#taken) {
        metric.reset();
        const samples = view === undefined ? [] : reading.of(view);
        // A metric without labels is reset to 0, which would be a claim.
        if (samples.length === 0) metric.remove({});
        for (const { value, labels = {} } of samples) metric.inc(labels, value);
      }
      // prom-client writes "Nan" (a mean of no events), which strict readers refuse.
      return (await this.#registry.metrics()).replaceAll(/ Nan$/gm, ' NaN');
    });
    this.#line = turn.catch(() => undefined);
    return await turn;
  }
}

/** A moment in seconds since 1970, as Prometheus wants it; nothing where it is unknown. */
export function secondsOf(at: string | null, labels: Readonly<Record<string, string>> = {}): Sample[] {
  return at === null ? [] : [{ value: Date.parse(at) / 1_000, labels }];
}

/** A number that may be unknown. */
export function known(value: number | null, labels: Readonly<Record<string, string>> = {}): Sample[] {
  return value === null ? [] : [{ value, labels }];
}
