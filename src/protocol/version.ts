/**
 * The version of the protocol between store and HQ, and its history.
 *
 *   1  first version: hello/welcome, pull with stored documents, push of store transactions as JSON bodies
 *   2  bodies of version 2 (row-text.ts), whose layouts hello describes
 *
 * A change that an older peer would misread raises PROTOCOL_VERSION; OLDEST_SERVED goes up only when no store in
 * the field speaks the older one any more, never in the same release.
 */
export const PROTOCOL_VERSION = 2;
export const OLDEST_SERVED = 1;

/** Version of the bodies that sealing writes: 1 JSON, 2 rows as text. HQ reads both. */
export const BODY_VERSION = 2;
