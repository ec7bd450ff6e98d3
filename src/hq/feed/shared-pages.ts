/**
 * One page for all stores that ask for the same at the same time: read once, encoded once, compressed once.
 *
 *   a price changes ─ hint ─▶ thousands ask from the same position within a moment
 *   request ─▶ joint.ts ─▶ ONE statement: the page of all stores, and which readers have records of their own above it
 *            ◀─ the same bytes ─ nothing of its own      (one snapshot for both, or a page could close a round
 *            ◀─ a page of its own ─ the others            over a record that it leaves out)
 *
 * Pages that end before the head, as those of a first download, are read ahead (pages-ahead.ts): while a store stages one
 * HQ reads the next, and stores that download at about the same time share them.
 *
 * The gate counts the pages that are made, not the stores that get them: of a fleet that was hinted at once it would
 * send nearly all away, and they would have their price half a minute later.
 */
import { systemClock, type Clock } from '../../core/clock.ts';
import { Joint } from '../../core/joint.ts';
import type { Gate } from '../gate.ts';
import { packed, type PackedBody } from '../http-body.ts';
import { PagesAhead, type MiddlePage } from './pages-ahead.ts';
import { pageBody, type FeedPage, type PageRequest, type PageResult, type SharedPage } from './pull.ts';

export interface SharedPagesOptions {
  readonly gate: Gate;
  /** The page of one store. */
  readonly page: (request: PageRequest) => Promise<PageResult>;
  /** The page of all stores, and which of these have more than that. */
  readonly shared: (request: PageRequest, storeIds: readonly number[]) => Promise<SharedPage>;
  /** Whether this store has records of its own above the position that it asks from. */
  readonly hasOwn: (request: PageRequest) => Promise<boolean>;
  readonly clock?: Clock;
}

export type PageAnswer =
  { readonly result: 'page'; readonly body: PackedBody } | Exclude<PageResult, FeedPage>;

interface Made {
  readonly shared: SharedPage;
  readonly own: ReadonlySet<number>;
  /** By what the readers take: brotli for all daemons. */
  readonly bodies: Map<string, Promise<PackedBody>>;
}

export class SharedPages {
  readonly #options: SharedPagesOptions;
  readonly #joints = new Map<string, Joint<number, Made | undefined>>();
  readonly #ahead: PagesAhead;

  constructor(options: SharedPagesOptions) {
    this.#options = options;
    this.#ahead = new PagesAhead(options.clock ?? systemClock);
  }

  async read(request: PageRequest, acceptEncoding: string | undefined): Promise<PageAnswer> {
    // Sealing comes first there, and is asked for by a person who waits.
    if (request.fresh === true) return await this.#alone(request, acceptEncoding);
    const ahead = await this.#readAhead(request, acceptEncoding);
    if (ahead !== undefined) return ahead;
    const made = await this.#join(request);
    if (made === undefined || made.own.has(request.storeId))
      return await this.#alone(request, acceptEncoding);
    const { page } = made.shared;
    if (page.result !== 'page') return page;
    const takes = acceptEncoding ?? '';
    const body = made.bodies.get(takes) ?? packed(pageBody(page), acceptEncoding);
    made.bodies.set(takes, body);
    if (!page.closing) this.#goOnShared(behind(request, page), acceptEncoding);
    return { result: 'page', body: await body };
  }

  async #alone(request: PageRequest, acceptEncoding: string | undefined): Promise<PageAnswer> {
    const { gate, page } = this.#options;
    return await gate.run(async () => {
      const answer = await page(request);
      if (answer.result !== 'page') return answer;
      if (!answer.closing) this.#goOnAlone(behind(request, answer), acceptEncoding);
      return { result: 'page', body: await packed(pageBody(answer), acceptEncoding) };
    }, request.storeId);
  }

  /** What was read ahead for this store, or for all where this store has nothing of its own. */
  async #readAhead(
    request: PageRequest,
    acceptEncoding: string | undefined,
  ): Promise<PageAnswer | undefined> {
    const own = await this.#ahead.take(keyOfOwn(request, acceptEncoding));
    if (own !== undefined) {
      this.#goOnAlone(behind(request, own), acceptEncoding);
      return { result: 'page', body: own.body };
    }
    const shared = await this.#ahead.find(keyOf(request, acceptEncoding));
    if (shared === undefined) return undefined;
    // Asked after the page was read: what was the store's own then is its own now, or has moved behind the page.
    if (await this.#options.hasOwn(request)) return await this.#alone(request, acceptEncoding);
    this.#goOnShared(behind(request, shared), acceptEncoding);
    return { result: 'page', body: shared.body };
  }

  #goOnShared(next: PageRequest, acceptEncoding: string | undefined): void {
    this.#ahead.begin(keyOf(next, acceptEncoding), () =>
      this.#middle(acceptEncoding, async () => (await this.#options.shared(next, [])).page),
    );
  }

  /** Behind the last record of its own the store goes on with the pages of all. */
  #goOnAlone(next: PageRequest, acceptEncoding: string | undefined): void {
    this.#ahead.begin(keyOfOwn(next, acceptEncoding), async () => {
      if (await this.#options.hasOwn(next))
        return await this.#middle(acceptEncoding, () => this.#options.page(next));
      this.#goOnShared(next, acceptEncoding);
      return undefined;
    });
  }

  /** undefined: no place for one more page now, or it closes a round. */
  async #middle(
    acceptEncoding: string | undefined,
    read: () => Promise<PageResult>,
  ): Promise<MiddlePage | undefined> {
    const { gate } = this.#options;
    if (gate.full) return undefined;
    return await gate.run(async () => {
      const page = await read();
      if (page.result !== 'page' || page.closing) return undefined;
      const { to, head, nonce } = page;
      return { body: await packed(pageBody(page), acceptEncoding), to, head, nonce };
    });
  }

  async #join(request: PageRequest): Promise<Made | undefined> {
    const key = keyOf(request, undefined);
    const joint = this.#joints.get(key) ?? new Joint((storeIds) => this.#make(request, storeIds));
    this.#joints.set(key, joint);
    try {
      return await joint.join(request.storeId);
    } finally {
      if (joint.idle && this.#joints.get(key) === joint) this.#joints.delete(key);
    }
  }

  /** undefined: no place for one more page; each asks for itself then, and hears when to return. */
  async #make(request: PageRequest, storeIds: readonly number[]): Promise<Made | undefined> {
    const { gate, shared } = this.#options;
    if (gate.full) return undefined;
    return await gate.run(async () => {
      const answer = await shared(request, [...new Set(storeIds)]);
      return { shared: answer, own: new Set(answer.own), bodies: new Map() };
    });
  }
}

/** What the store will ask when it has staged this page. */
function behind(request: PageRequest, { to, head, nonce }: Omit<MiddlePage, 'body'>): PageRequest {
  return { ...request, from: to, seen: { pos: head, nonce } };
}

/** Who asks the same gets the same, whoever it is. */
function keyOf({ from, limit, cursor, seen }: PageRequest, acceptEncoding: string | undefined): string {
  return JSON.stringify([from, limit, cursor?.pos, cursor?.nonce, seen?.pos, seen?.nonce, acceptEncoding]);
}

function keyOfOwn(request: PageRequest, acceptEncoding: string | undefined): string {
  return `${request.storeId} ${keyOf(request, acceptEncoding)}`;
}
