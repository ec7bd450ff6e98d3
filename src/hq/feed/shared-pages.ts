/**
 * One page for all stores that ask for the same at the same time: read once, encoded once, compressed once.
 *
 *   a price changes ─ hint ─▶ thousands ask from the same position within a moment
 *   request ─▶ joint.ts ─▶ ONE statement: the page of all stores, and which readers have records of their own above it
 *            ◀─ the same bytes ─ nothing of its own      (one snapshot for both, or a page could close a round
 *            ◀─ a page of its own ─ the others            over a record that it leaves out)
 *
 * The gate counts the pages that are made, not the stores that get them: of a fleet that was hinted at once it would
 * send nearly all away, and they would have their price half a minute later.
 */
import type { Gate } from '../gate.ts';
import { packed, type PackedBody } from '../http-body.ts';
import { Joint } from '../../core/joint.ts';
import { pageBody, type FeedPage, type PageRequest, type PageResult, type SharedPage } from './pull.ts';

export interface SharedPagesOptions {
  readonly gate: Gate;
  /** The page of one store. */
  readonly page: (request: PageRequest) => Promise<PageResult>;
  /** The page of all stores, and which of these have more than that. */
  readonly shared: (request: PageRequest, storeIds: readonly number[]) => Promise<SharedPage>;
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

  constructor(options: SharedPagesOptions) {
    this.#options = options;
  }

  async read(request: PageRequest, acceptEncoding: string | undefined): Promise<PageAnswer> {
    const { storeId, fresh = false } = request;
    // Sealing comes first there, and is asked for by a person who waits.
    const made = fresh ? undefined : await this.#join(request);
    if (made === undefined || made.own.has(storeId)) return await this.#alone(request, acceptEncoding);
    const { page } = made.shared;
    if (page.result !== 'page') return page;
    const takes = acceptEncoding ?? '';
    const body = made.bodies.get(takes) ?? packed(pageBody(page), acceptEncoding);
    made.bodies.set(takes, body);
    return { result: 'page', body: await body };
  }

  async #alone(request: PageRequest, acceptEncoding: string | undefined): Promise<PageAnswer> {
    const { gate, page } = this.#options;
    return await gate.run(async () => {
      const answer = await page(request);
      return answer.result === 'page'
        ? { result: 'page', body: await packed(pageBody(answer), acceptEncoding) }
        : answer;
    }, request.storeId);
  }

  async #join(request: PageRequest): Promise<Made | undefined> {
    const { from, limit, cursor, seen } = request;
    const key = JSON.stringify([from, limit, cursor, seen]);
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
