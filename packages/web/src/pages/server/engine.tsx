import type { HealthResponse } from '@mlx-training/sdk'
import { Badge, type Tone } from '../../components/badge.tsx'
import { Card, Facts } from '../../components/facts.tsx'
import { number } from '../../format.ts'

const TONES: Record<string, Tone> = {
  ok: 'good',
  ready: 'good',
  starting: 'info',
  unavailable: 'bad',
  full: 'bad',
}
const CHECKS = { database: 'Database', engine: 'Engine', disk: 'Disk' }

export function Engine({ health: { engine, checks } }: { health: HealthResponse }) {
  const told: [string, string | null][] = [
    ['Device', engine.device],
    ['Back end', engine.backend],
    ['Numbers', engine.dtype],
    ['Matrix product', engine.gflops === null ? null : `${number(engine.gflops)} GFLOP/s`],
    ['Kernels', engine.kernels],
    ['MLX', engine.mlx_version],
    ['mlx-lm', engine.mlx_lm_version],
  ]
  // A GPU has no kernels of ours, an engine that can't start nothing at all.
  const known = told.filter(([, value]) => value !== null)
  return (
    <Card
      title="Engine"
      actions={
        <Badge tone={TONES[engine.state]} live={engine.state === 'starting'}>
          {engine.state}
        </Badge>
      }
    >
      {engine.reason && <p class="notice bad server-reason">{engine.reason}</p>}
      <Facts
        facts={[
          ...known,
          [
            'Checks',
            <span key="checks" class="row">
              {Object.entries(checks).map(([name, state]) => (
                <Badge key={name} tone={TONES[state]}>
                  {CHECKS[name as keyof typeof CHECKS]}
                  {state === 'ok' ? '' : ` ${state}`}
                </Badge>
              ))}
            </span>,
          ],
        ]}
      />
    </Card>
  )
}
