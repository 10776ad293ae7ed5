/** createWebhooks: brings the messages in the outbox to their receivers. */
import type { BaseLogger } from 'pino'
import { Webhook } from 'standardwebhooks'
import type { Notifier } from '../events/notifier.ts'
import type { Job } from '../jobs/port.ts'
import type { Delivery, NewDelivery, Outbox, Store } from '../store/port.ts'
import { messagesOf } from './message.ts'
import { SCHEDULE, type Schedule, waitAfter } from './retry.ts'

export interface WebhookDependencies {
  urls: readonly string[]
  /** whsec_ and Base64. */
  secret: string
  notifier: Notifier
  log: Pick<BaseLogger, 'info' | 'warn' | 'error'>
  onAttempt?: (result: AttemptResult) => void
  schedule?: Schedule
  /** Milliseconds for one attempt, from connecting to the answer's status. */
  timeout?: number
}

export type AttemptResult = 'delivered' | 'failed' | 'given_up'

/** At a time, to one receiver. A receiver has a course of its own, so a dead one delays no other. */
const CONCURRENCY = 4
const TIMEOUT_MILLISECONDS = 10_000
/** Also wakes it when the clock was set, and when the database could not be read. */
const LONGEST_SLEEP = 60_000

export interface Webhooks {
  /** For the store, whose outbox holds these until they have been delivered. */
  onEnd(job: Job): NewDelivery[]
  start(store: Pick<Store, 'outbox'>): Promise<void>
  /** Attempts under way are cut off; what they were for stays in the outbox. */
  close(): Promise<void>
}

export function createWebhooks(deps: WebhookDependencies): Webhooks {
  const { urls, notifier, log } = deps
  const closing = new AbortController()
  let receivers: Receiver[] = []
  let unsubscribe = () => {}
  let ended = false
  const wakeAll = () => {
    ended = false
    for (const receiver of receivers) receiver.wake()
  }
  return {
    onEnd(job) {
      ended = true
      return messagesOf(job, urls)
    },
    async start({ outbox }) {
      const dropped = await outbox.keepOnly(urls)
      if (dropped > 0) log.warn({ dropped }, 'webhooks for receivers that are configured no more were dropped')
      receivers = urls.map((url) => new Receiver(url, outbox, deps, closing.signal))
      // Told after the commit, with every change of a job.
      unsubscribe = notifier.subscribe('events', () => ended && wakeAll())
      wakeAll()
    },
    async close() {
      unsubscribe()
      closing.abort()
      await Promise.all(receivers.map((receiver) => receiver.idle()))
    },
  }
}

class Receiver {
  readonly #url: string
  readonly #outbox: Outbox
  readonly #deps: WebhookDependencies
  readonly #closing: AbortSignal
  readonly #webhook: Webhook
  readonly #underWay = new Map<string, Promise<void>>()
  #look: Promise<void> | null = null
  #woken = false
  #timer: NodeJS.Timeout | undefined

  constructor(url: string, outbox: Outbox, deps: WebhookDependencies, closing: AbortSignal) {
    this.#url = url
    this.#outbox = outbox
    this.#deps = deps
    this.#closing = closing
    this.#webhook = new Webhook(deps.secret)
  }

  wake(): void {
    if (this.#closing.aborted) return
    this.#woken = true
    this.#look ??= this.#fill().finally(() => {
      this.#look = null
    })
  }

  async idle(): Promise<void> {
    await this.#look
    clearTimeout(this.#timer)
    await Promise.all(this.#underWay.values())
  }

  /** Starts what is due; whatever ends wakes it again. */
  async #fill(): Promise<void> {
    clearTimeout(this.#timer)
    let sleep = LONGEST_SLEEP
    try {
      while (this.#woken && !this.#closing.aborted) {
        this.#woken = false
        const now = new Date().toISOString()
        for (const delivery of await this.#outbox.due(this.#url, now, 2 * CONCURRENCY))
          if (this.#underWay.size < CONCURRENCY && !this.#underWay.has(delivery.id)) this.#begin(delivery)
        const next = await this.#outbox.nextDue(this.#url, now)
        if (next !== null) sleep = Math.min(LONGEST_SLEEP, Math.max(0, Date.parse(next) - Date.now()))
      }
    } catch (error) {
      this.#deps.log.error({ err: error }, 'the outbox of webhooks could not be read')
    }
    if (!this.#closing.aborted) this.#timer = setTimeout(() => this.wake(), sleep).unref()
  }

  #begin(delivery: Delivery): void {
    const course = this.#deliver(delivery).then(
      () => {
        this.#underWay.delete(delivery.id)
        this.wake()
      },
      (error) => {
        // Left alone until the next look: the disk may be full.
        this.#underWay.delete(delivery.id)
        this.#deps.log.error({ err: error }, 'the outcome of a webhook could not be written')
      },
    )
    this.#underWay.set(delivery.id, course)
  }

  async #deliver(delivery: Delivery): Promise<void> {
    const { log, onAttempt, schedule = SCHEDULE } = this.#deps
    const answer = await this.#post(delivery)
    if (this.#closing.aborted && answer.status === null) return
    const attempt = delivery.attempts + 1
    const line = { webhook_id: delivery.id, receiver: new URL(this.#url).host, attempt, status: answer.status }
    if (answer.status !== null && answer.status >= 200 && answer.status < 300) {
      await this.#outbox.remove(delivery)
      onAttempt?.('delivered')
      log.info(line, 'webhook delivered')
      return
    }
    const wait = answer.status === 410 ? null : waitAfter(attempt, schedule, Math.random())
    if (wait === null) {
      await this.#outbox.remove(delivery)
      onAttempt?.('given_up')
      log.error(line, `webhook given up: ${answer.problem}`)
    } else {
      await this.#outbox.postpone(delivery, attempt, new Date(Date.now() + wait).toISOString())
      onAttempt?.('failed')
      log.warn({ ...line, retry_seconds: Math.round(wait / 1000) }, `webhook not delivered: ${answer.problem}`)
    }
  }

  /** The time that is signed is that of the attempt, by which receivers know replays. */
  async #post({ id, body }: Delivery): Promise<{ status: number | null; problem: string }> {
    const at = new Date()
    const { timeout = TIMEOUT_MILLISECONDS } = this.#deps
    try {
      const response = await fetch(this.#url, {
        method: 'POST',
        redirect: 'manual',
        headers: {
          'content-type': 'application/json',
          'user-agent': 'mlx-distributed-training',
          'webhook-id': id,
          'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
          'webhook-signature': this.#webhook.sign(id, at, body),
        },
        body,
        signal: AbortSignal.any([this.#closing, AbortSignal.timeout(timeout)]),
      })
      void response.body?.cancel().catch(() => {})
      return { status: response.status, problem: problemOf(response.status) }
    } catch (error) {
      return { status: null, problem: explain(error, timeout) }
    }
  }
}

function problemOf(status: number): string {
  if (status === 410) return 'the receiver is gone (410): take it out of MLX_TRAINING_WEBHOOK_URLS'
  if (status >= 300 && status < 400) return `it answered ${status}; redirects are not followed`
  return `it answered ${status}`
}

/** fetch says "fetch failed" and keeps the cause to itself. Never the URL: it may hold a secret. */
function explain(error: unknown, timeout: number): string {
  if (error instanceof Error && error.name === 'TimeoutError') return `no answer within ${timeout / 1000} s`
  const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined
  return cause?.code ?? 'it could not be reached'
}
