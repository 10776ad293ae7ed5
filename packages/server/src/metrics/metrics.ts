/** createMetrics: everything that GET /metrics tells, in a registry of its own: several apps may live in one process. */
import { JOB_STATES } from '@mlx-training/contract'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Store } from '../store/port.ts'

export type Metrics = ReturnType<typeof createMetrics>

/** Seconds. */
const FAST = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const SLOW = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 43_200, 86_400]

/** `ofProcess`: also memory, CPU, event loop and garbage collection of the whole process. */
export function createMetrics({ ofProcess = false } = {}) {
  const registry = new Registry()
  const registers = [registry]
  if (ofProcess) collectDefaultMetrics({ register: registry })
  const counter = <T extends string = never>(name: string, help: string, labelNames: T[] = []) =>
    new Counter<T>({ name: `mlx_training_${name}`, help, labelNames, registers })
  const histogram = <T extends string = never>(name: string, help: string, buckets: number[], labelNames: T[] = []) =>
    new Histogram<T>({ name: `mlx_training_${name}`, help, buckets, labelNames, registers })
  const streams = new Gauge({
    name: 'mlx_training_event_streams',
    help: 'Clients that follow the events of a job',
    registers,
  })

  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    http: histogram('http_request_seconds', 'Requests, from arrival to the end of the answer', FAST, [
      'method',
      'route',
      'status',
    ]),
    streams,
    streamsOpened: counter('event_streams_opened_total', 'Event streams that were opened'),
    streamsCut: counter('event_streams_cut_total', 'Event streams that were cut, because their clients did not read'),
    eventLag: histogram('event_lag_seconds', 'From a frame of the engine to events that clients can read', FAST),
    steps: histogram('step_seconds', 'Optimiser steps, as measured by the engine', SLOW),
    tokens: counter('tokens_processed_total', 'Tokens without padding that steps have computed'),
    trainedTokens: counter('tokens_trained_total', 'Tokens of them that carry loss'),
    ceded: counter('ceded_seconds_total', 'Seconds in which training has given way to answers'),
    queueWait: histogram('queue_wait_seconds', "From a job's acceptance to its first start", SLOW),
    restarts: counter('job_restarts_total', 'Starts of jobs after their first: resumed, or going on after a crash'),
    exits: counter('engine_exits_total', 'Training processes that ended, and how', ['kind']),
    webhooks: counter('webhook_attempts_total', 'Attempts to deliver a webhook', ['result']),
    database: histogram('database_seconds', 'Statements, the commit with its sync to disk included', FAST, [
      'operation',
    ]),

    /** What is read from the store whenever it is asked for. */
    watch(store: Pick<Store, 'countStates' | 'oldestQueued' | 'outbox'>): void {
      new Gauge({
        name: 'mlx_training_jobs',
        help: 'Jobs by state; state="queued" is the length of the queue',
        labelNames: ['state'],
        registers,
        async collect() {
          const counts = await store.countStates()
          for (const state of JOB_STATES) this.set({ state }, counts[state] ?? 0)
        },
      })
      new Gauge({
        name: 'mlx_training_queue_oldest_seconds',
        help: 'How long the oldest of the queued jobs has been here; 0 without one',
        registers,
        async collect() {
          const oldest = await store.oldestQueued()
          this.set(oldest === null ? 0 : Math.max(0, (Date.now() - Date.parse(oldest)) / 1000))
        },
      })
      new Gauge({
        name: 'mlx_training_webhooks_pending',
        help: 'Webhooks that no receiver has taken yet',
        registers,
        async collect() {
          this.set(await store.outbox.size())
        },
      })
    },
  }
}
