import type { HealthResponse } from '@mlx-training/sdk'
import { Badge, type Tone } from '../../components/badge.tsx'
import { Card, Facts } from '../../components/facts.tsx'
import { NONE, number } from '../../format.ts'

const TONES: Record<string, Tone> = {
  ok: 'good',
  ready: 'good',
  starting: 'info',
  unavailable: 'bad',
  full: 'bad',
}
const CHECKS = { database: 'Database', engine: 'Engine', disk: 'Disk' }

export function Engine({ health: { engine, checks } }: { health: HealthResponse }) {
  return (
    <Card
      title="Engine"
      actions={
        <Badge tone={TONES[engine.state]} live={engine.state === 'starting'}>
          {engine.state}
        </Badge>
      }
    >
      {engine.reason && <p class="notice bad">{engine.reason}</p>}
      <Facts
        facts={[
          ['Device', engine.device ?? NONE],
          ['Back end', engine.backend ?? NONE],
          ['Numbers', engine.dtype ?? NONE],
          ['Matrix product', engine.gflops === null ? NONE : `${number(engine.gflops)} GFLOP/s`],
          ...(engine.kernels === null ? [] : [['Kernels', engine.kernels] as const]),
          ['MLX', engine.mlx_version ?? NONE],
          ['mlx-lm', engine.mlx_lm_version ?? NONE],
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
