import type {
  AcceptedRequest,
  CommandResponse,
  DeleteResponse,
  EstimateResponse,
  HistoryResponse,
  JobEvent,
  JobState,
  JobsChange,
  ListResponse,
  PriorityResponse,
  StartResponse,
  StatusResponse,
} from '@mlx-training/contract'
import { type ChangesOptions, type FollowOptions, followChanges, followEvents } from '../follow.ts'
import type { CloneInput, EstimateInput, HistoryInput, PriorityInput, StartInput } from '../requests.ts'
import { segment } from '../segment.ts'
import { MINUTE, type RequestOptions, type Transport } from '../transport.ts'

export interface StartOptions extends RequestOptions {
  /** Default: a new one for each call, so that a try that got lost is not carried out twice. */
  idempotencyKey?: string
}

export interface WaitOptions extends FollowOptions {
  onEvent?: (event: JobEvent) => void
}

/** Reading and hashing the rows of a large file takes a start some time. */
const START_TIMEOUT = 10 * MINUTE
/** An estimate loads the model and does some steps. */
const ESTIMATE_TIMEOUT = 30 * MINUTE

export class Train {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** ConflictError: there is an experiment of this name; UnprocessableError: a field or the data are wrong. */
  start(request: StartInput, options: StartOptions = {}): Promise<StartResponse> {
    return this.#begin('/train/start', request, options)
  }

  /** Another job with the request of this one and `changes`. */
  clone(name: string, request: CloneInput, options: StartOptions = {}): Promise<StartResponse> {
    return this.#begin(`${pathOf(name)}/clone`, request, options)
  }

  /** What a start would take, measured; starts nothing. */
  estimate(request: EstimateInput, options: RequestOptions = {}): Promise<EstimateResponse> {
    return this.#transport.json({
      timeout: ESTIMATE_TIMEOUT,
      ...options,
      method: 'POST',
      path: '/train/estimate',
      json: request,
    })
  }

  /** All jobs, newest first. */
  list(options: RequestOptions = {}): Promise<ListResponse> {
    return this.#transport.json({ ...options, method: 'GET', path: '/train' })
  }

  /**
   * The list of all jobs (`jobs`), then each that changes (`job`) or is gone (`removed`), until the signal aborts. Connects
   * again by itself, after the last change that came, until the server has been away for `patience`.
   */
  changes(options: ChangesOptions = {}): AsyncGenerator<JobsChange, void> {
    return followChanges(this.#transport, '/train/changes', options)
  }

  status(name: string, options: RequestOptions = {}): Promise<StatusResponse> {
    return this.#transport.json({ ...options, method: 'GET', path: `${pathOf(name)}/status` })
  }

  /** What it was asked for, with every default: what `start` takes to make it again, under another name. */
  request(name: string, options: RequestOptions = {}): Promise<AcceptedRequest> {
    return this.#transport.json({ ...options, method: 'GET', path: `${pathOf(name)}/request` })
  }

  /** What it has learned, or had at the checkpoint of `step`, as a tar, not read yet: `.body` is a stream, `.blob()` all of it. */
  model(name: string, query: { step?: number } = {}, options: RequestOptions = {}): Promise<Response> {
    return this.#transport.send({ ...options, method: 'GET', path: `${pathOf(name)}/model`, query })
  }

  /** Its steps in columns, to draw them, and all other events. `last_event` is `after` of the following call, or of `events`. */
  history(name: string, query: HistoryInput = {}, options: RequestOptions = {}): Promise<HistoryResponse> {
    return this.#transport.json({ ...options, method: 'GET', path: `${pathOf(name)}/history`, query })
  }

  /** What it learned is saved. */
  stop(name: string, options: RequestOptions = {}): Promise<CommandResponse> {
    return this.#transport.json({ ...options, method: 'POST', path: `${pathOf(name)}/stop` })
  }

  pause(name: string, options: RequestOptions = {}): Promise<CommandResponse> {
    return this.#transport.json({ ...options, method: 'POST', path: `${pathOf(name)}/pause` })
  }

  resume(name: string, options: RequestOptions = {}): Promise<CommandResponse> {
    return this.#transport.json({ ...options, method: 'POST', path: `${pathOf(name)}/resume` })
  }

  /** Moves a queued job within the queue. */
  prioritize(name: string, request: PriorityInput, options: RequestOptions = {}): Promise<PriorityResponse> {
    return this.#transport.json({
      safe: true,
      ...options,
      method: 'POST',
      path: `${pathOf(name)}/priority`,
      json: request,
    })
  }

  /** An ended experiment, with the files that it made. */
  delete(name: string, options: RequestOptions = {}): Promise<DeleteResponse> {
    return this.#transport.json({ ...options, method: 'DELETE', path: pathOf(name) })
  }

  /**
   * A job's history and then what happens, each event once, up to its end. Connects again by itself, after the last event
   * that came, until the server has been away for `patience`.
   */
  events(name: string, options: FollowOptions = {}): AsyncGenerator<JobEvent, void> {
    return followEvents(this.#transport, `${pathOf(name)}/events`, options)
  }

  /** Follows a job to its end, whichever that is: look at `status` and `reason` of what it returns. */
  async wait(name: string, { onEvent, ...options }: WaitOptions = {}): Promise<StatusResponse> {
    let after = options.after ?? 0
    for (;;) {
      for await (const event of this.events(name, { ...options, after })) {
        after = event.id
        onEvent?.(event)
      }
      const status = await this.status(name, options.signal ? { signal: options.signal } : {})
      if (ENDED.includes(status.status)) return status
    }
  }

  #begin(path: string, request: object, options: StartOptions): Promise<StartResponse> {
    const { idempotencyKey = crypto.randomUUID(), headers, ...rest } = options
    return this.#transport.json({
      timeout: START_TIMEOUT,
      ...rest,
      method: 'POST',
      path,
      json: request,
      headers: { ...headers, 'idempotency-key': idempotencyKey },
      safe: true,
    })
  }
}

const ENDED: JobState[] = ['completed', 'failed', 'stopped']

const pathOf = (name: string) => `/train/${segment(name)}`
