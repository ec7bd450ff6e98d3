/**
 * The version of the protocol between store and HQ, and its history.
 *
 *   1  first version: hello/welcome, pull with stored documents, push of store transactions as JSON bodies
 *
 * A change that an older peer would misread raises PROTOCOL_VERSION; OLDEST_SERVED goes up only when no store in
 * the field speaks the older one any more, never in the same release.
 */
export const PROTOCOL_VERSION = 1;
export const OLDEST_SERVED = 1;

/** Version of the bodies that capture writes (column lists of the entity table). */
export const BODY_VERSION = 1;
