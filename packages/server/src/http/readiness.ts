import { type Checks, ServiceError } from '@mlx-training/contract'
import type { Engine } from '../engine/port.ts'
import { freeBytes, RESERVE_BYTES } from '../jobs/space.ts'
import type { Store } from '../store/port.ts'
import type { Handler } from './routes.ts'

export type Readiness = () => Promise<Checks>

/** How long an answer holds: load balancers may ask as often as they like. */
const CACHE_MILLISECONDS = 500

export function createReadiness(deps: {
  store: Pick<Store, 'check'>
  engine: Pick<Engine, 'health'>
  /** Of the database and of what jobs keep. */
  home: string
}): Readiness {
  let at = Number.NEGATIVE_INFINITY
  let checks: Promise<Checks>
  return () => {
    if (performance.now() - at > CACHE_MILLISECONDS) {
      at = performance.now()
      checks = look(deps)
    }
    return checks
  }
}

async function look({ store, engine, home }: Parameters<typeof createReadiness>[0]): Promise<Checks> {
  const [database, disk] = await Promise.all([
    store.check().then(
      () => 'ok' as const,
      () => 'unavailable' as const,
    ),
    // As full as that no job would be accepted.
    freeBytes(home).then(
      (free) => (free < RESERVE_BYTES ? 'full' : 'ok'),
      () => 'unavailable' as const,
    ),
  ])
  const { state } = engine.health()
  return { database, engine: state === 'ready' ? 'ok' : state, disk }
}

export const isReady = (checks: Checks): boolean => Object.values(checks).every((check) => check === 'ok')

/** 503 takes a server out of a load balancer's rotation. */
export const ready =
  (readiness: Readiness): Handler<'ready'> =>
  async () => {
    const checks = await readiness()
    if (isReady(checks)) return { ready: true, checks }
    const missing = Object.entries(checks).flatMap(([name, check]) => (check === 'ok' ? [] : `${name}: ${check}`))
    throw new ServiceError('unavailable', `Not ready (${missing.join(', ')}); GET /health has more`, { retryAfter: 5 })
  }
