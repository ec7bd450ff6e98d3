/** Tells connected stores of their orders to rotate: at once when one is given, and again until the order is done. */
import type pg from 'pg';
import type { Clock } from '../../core/clock.ts';
import type { Log } from '../../core/log.ts';
import { Repeated } from '../../core/repeated.ts';
import type { Service } from '../../core/service.ts';
import type { HqFrame, RotationReport } from '../../protocol/messages.ts';
import { noteReport, openOrders } from './orders.ts';
import type { Authenticated } from './tokens.ts';

export interface OrderDeskOptions {
  readonly pool: pg.Pool;
  readonly clock: Clock;
  readonly log: Log;
  readonly connected: () => readonly number[];
  readonly send: (storeId: number, frame: HqFrame) => void;
}

/** A frame or a NOTIFY that got lost costs a minute. */
const LOOK_MS = 60_000;

export class OrderDesk implements Service {
  readonly name = 'rotation orders';
  readonly #options: OrderDeskOptions;
  readonly #looks: Repeated;

  constructor(options: OrderDeskOptions) {
    this.#options = options;
    this.#looks = new Repeated({
      name: this.name,
      clock: options.clock,
      everyMs: LOOK_MS,
      work: () => this.#tell(options.connected(), true),
    });
  }

  start(): void {
    this.#looks.start();
  }

  stop(): void {
    this.#looks.stop();
  }

  /** Of these stores those that are connected here get their orders now. */
  async ordered(storeIds: readonly number[]): Promise<void> {
    const here = new Set(this.#options.connected());
    await this.#tell(
      storeIds.filter((id) => here.has(id)),
      false,
    );
  }

  /** The report of a store; its success HQ has seen itself. */
  async reported(caller: Authenticated, report: RotationReport): Promise<void> {
    const { pool, log } = this.#options;
    if (report.code !== null)
      log.warn('a store could not carry out an order to rotate', {
        store: caller.code,
        code: report.code,
        why: report.message,
      });
    try {
      await noteReport(pool, caller, report);
    } catch (error) {
      log.warn('could not note the report of a rotation', { store: caller.code, err: error });
    }
  }

  async #tell(storeIds: readonly number[], patient: boolean): Promise<void> {
    const { pool, log, send } = this.#options;
    if (storeIds.length === 0) return;
    try {
      for (const { storeId, order } of await openOrders(pool, storeIds, { patient }))
        send(storeId, { type: 'rotate', ...order });
    } catch (error) {
      log.debug('could not look for orders to rotate', { err: error });
    }
  }
}
