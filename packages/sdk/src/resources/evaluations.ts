import type { Evaluation, EvaluationDeleted, EvaluationStarted, EvaluationsResponse } from '@mlx-training/contract'
import { ConnectionError } from '../errors.ts'
import type { EvaluateInput, EvaluationsInput } from '../requests.ts'
import { segment } from '../segment.ts'
import { MINUTE, pause, type RequestOptions, SECOND, type Transport } from '../transport.ts'

export interface EvaluationWaitOptions extends RequestOptions {
  /** Of each look at it, the last one included. */
  onProgress?: (evaluation: Evaluation) => void
  /** Milliseconds between looks. Default one second. */
  interval?: number
  /** Milliseconds for which a server that is away is asked again. Default 5 minutes. */
  patience?: number
}

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
    return this.#transport.json({ ...options, method: 'GET', path: `/evaluate/${segment(id)}` })
  }

  /** Asks until it has ended, whichever way: look at `state` and `reason` of what it returns. */
  async wait(id: string, options: EvaluationWaitOptions = {}): Promise<Evaluation> {
    const { onProgress, interval = SECOND, patience = 5 * MINUTE, ...request } = options
    let seen = Date.now()
    for (;;) {
      try {
        const evaluation = await this.get(id, request)
        seen = Date.now()
        onProgress?.(evaluation)
        if (!UNENDED.includes(evaluation.state)) return evaluation
      } catch (error) {
        if (!(error instanceof ConnectionError) || Date.now() - seen > patience) throw error
      }
      await pause(interval, options.signal)
    }
  }

  /** One that has ended stays as it is. */
  cancel(id: string, options: RequestOptions = {}): Promise<EvaluationStarted> {
    return this.#transport.json({ ...options, method: 'POST', path: `/evaluate/${segment(id)}/cancel` })
  }

  /** One that has not ended: ConflictError. */
  delete(id: string, options: RequestOptions = {}): Promise<EvaluationDeleted> {
    return this.#transport.json({ ...options, method: 'DELETE', path: `/evaluate/${segment(id)}` })
  }
}

const UNENDED: Evaluation['state'][] = ['queued', 'running']
