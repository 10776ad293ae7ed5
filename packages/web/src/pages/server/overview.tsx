import type { HealthResponse } from '@mlx-training/sdk'
import { Progress, Stat } from '../../components/facts.tsx'
import { count, duration, megabytes, moment, NONE } from '../../format.ts'

const STATES = { ready: 'Ready', starting: 'Starting', unavailable: 'Unavailable' }

export function Overview({ health }: { health: HealthResponse }) {
  const up = (Date.parse(health.timestamp) - Date.parse(health.started_at)) / 1000
  const { engine, memory, active_jobs: active, queued_jobs: queued, max_concurrent_jobs: most } = health
  const used = memory.total_mb - memory.available_mb
  const share = Math.round((100 * used) / memory.total_mb)
  return (
    <div class="stats">
      <Stat
        label="Engine"
        value={STATES[engine.state]}
        note={engine.dtype ? `computes in ${engine.dtype}` : undefined}
      />
      <Stat label="Device" value={deviceOf(engine.device)} note={engine.backend?.replace(/ \(.*\)$/, '')} />
      <Stat
        label="Matrix product"
        value={engine.gflops === null ? NONE : `${count(Math.round(engine.gflops))} GFLOP/s`}
        note={engine.gflops === null ? undefined : '1024³, measured at start'}
      />
      <Stat
        label="Memory in use"
        value={`${share}%`}
        note={
          <>
            {megabytes(used)} of {megabytes(memory.total_mb)}
            <Progress value={share} label="Memory in use" />
          </>
        }
      />
      <Stat
        label="Training"
        value={`${active} of ${most}`}
        note={queued === 0 ? 'nothing waits' : `${count(queued)} in the queue`}
      />
      <Stat label="Up for" value={duration(up)} note={`since ${moment(health.started_at)}`} />
    </div>
  )
}

/** `cuda: NVIDIA H100` → `NVIDIA H100` */
const deviceOf = (device: string | null) =>
  device === null ? NONE : device === 'cpu' ? 'CPU' : device.replace(/^\w+: /, '')
