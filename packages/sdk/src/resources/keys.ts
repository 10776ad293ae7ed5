import type { CreatedKey, DeletedKey, KeysResponse, OwnKey } from '@mlx-training/contract'
import type { KeyInput } from '../requests.ts'
import { segment } from '../segment.ts'
import type { RequestOptions, Transport } from '../transport.ts'

/** API keys. All but `own` needs one with the scope "admin". */
export class Keys {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** The key itself is in this answer, and never told again. */
  create(request: KeyInput, options: RequestOptions = {}): Promise<CreatedKey> {
    return this.#transport.json({ ...options, method: 'POST', path: '/keys', json: request })
  }

  /** All that are not revoked, the oldest first. */
  list(options: RequestOptions = {}): Promise<KeysResponse> {
    return this.#transport.json({ ...options, method: 'GET', path: '/keys' })
  }

  /** What the key of this client may do. */
  own(options: RequestOptions = {}): Promise<OwnKey> {
    return this.#transport.json({ ...options, method: 'GET', path: '/keys/me' })
  }

  /** Revokes it, at once. */
  delete(id: string, options: RequestOptions = {}): Promise<DeletedKey> {
    return this.#transport.json({ ...options, method: 'DELETE', path: `/keys/${segment(id)}` })
  }
}
