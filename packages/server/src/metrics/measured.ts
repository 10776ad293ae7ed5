/** The store and the engine, watched: what they do is counted where it passes, and nowhere else. */
import type { Engine, TrainingExit } from '../engine/port.ts'
import type { Store } from '../store/port.ts'
import type { Metrics } from './metrics.ts'

export function measuredStore(store: Store, metrics: Metrics): Store {
  return {
    ...store,
    async claim(...args) {
      const job = await store.claim(...args)
      if (job && job.attempt > 1) metrics.restarts.inc()
      else if (job) metrics.queueWait.observe(Math.max(0, (Date.now() - Date.parse(job.createdAt)) / 1000))
      return job
    },
  }
}

export function measuredEngine(engine: Engine, metrics: Metrics): Engine {
  return {
    ...engine,
    train(command, onFrame) {
      const process = engine.train(command, async (frame) => {
        const received = performance.now()
        if (frame.type === 'step') {
          metrics.tokens.inc(frame.tokens)
          metrics.trainedTokens.inc(frame.trained_tokens)
          metrics.ceded.inc(frame.ceded_seconds ?? 0)
          if (frame.tokens_per_second > 0) metrics.steps.observe(frame.tokens / frame.tokens_per_second)
        }
        await onFrame(frame)
        // The others are not kept, or not all of them.
        if (frame.type !== 'alive' && frame.type !== 'hello' && frame.type !== 'stage')
          metrics.eventLag.observe((performance.now() - received) / 1000)
      })
      void process.exited.then((exit) => metrics.exits.inc({ kind: kindOf(exit) }))
      return process
    },
  }
}

/** e.g. completed, suspended, hung, out_of_memory, disk_full. */
function kindOf({ kind, outOfMemory, error, finished }: TrainingExit): string {
  if (outOfMemory) return 'out_of_memory'
  if (kind === 'error') return error?.kind ?? kind
  return kind === 'finished' ? (finished?.outcome ?? kind) : kind
}
