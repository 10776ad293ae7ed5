import type { Evaluation, EvaluationDeleted, EvaluationStarted, EvaluationsResponse } from '@mlx-training/contract'
import type { EvaluateInput, EvaluationsInput } from '../requests.ts'
import { MINUTE, type RequestOptions, type Transport } from '../transport.ts'

/** Before it answers it has read all rows of a file, which may have gigabytes. */
const START_TIMEOUT = 30 * MINUTE

export class Evaluations {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  start(request: EvaluateInput, options: RequestOptions = {}): Promise<EvaluationStarted> {
    return this.#transport.json({
      timeout: START_TIMEOUT,
      ...options,
      method: 'POST',
      path: '/evaluate',
      json: request,
    })
  }

  /** A page, newest first; `next` goes into `after` for the following one. */
  list(query: EvaluationsInput = {}, options: RequestOptions = {}): Promise<EvaluationsResponse> {
    return this.#transport.json({ ...options, method: 'GET', path: '/evaluate', query })
  }

  get(id: string, options: RequestOptions = {}): Promise<Evaluation> {
    return this.#transport.json({ ...options, method: 'GET', path: `/evaluate/${encodeURIComponent(id)}` })
  }

  /** One that has ended stays as it is. */
  cancel(id: string, options: RequestOptions = {}): Promise<EvaluationStarted> {
    return this.#transport.json({ ...options, method: 'POST', path: `/evaluate/${encodeURIComponent(id)}/cancel` })
  }

  /** One that has not ended: ConflictError. */
  delete(id: string, options: RequestOptions = {}): Promise<EvaluationDeleted> {
    return this.#transport.json({ ...options, method: 'DELETE', path: `/evaluate/${encodeURIComponent(id)}` })
  }
}
