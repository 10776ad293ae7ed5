/** createNotifier: wakes readers within this process. Only a hint: what has changed is read from the store. */
import { EventEmitter } from 'node:events'

/** events: a job's history has grown; commands: a user wants something else of a job. */
export type Topic = 'events' | 'commands'

export interface Notifier {
  publish(topic: Topic, jobId: string): void
  /** Returns the way to unsubscribe. */
  subscribe(topic: Topic, listener: (jobId: string) => void): () => void
}

export function createNotifier(): Notifier {
  const emitter = new EventEmitter<Record<Topic, [jobId: string]>>()
  emitter.setMaxListeners(0)
  return {
    publish: (topic, jobId) => void emitter.emit(topic, jobId),
    subscribe(topic, listener) {
      emitter.on(topic, listener)
      return () => void emitter.off(topic, listener)
    },
  }
}
