import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { type KeptSecret, keepSecret } from '../auth/secret-file.ts'
import { type Config, isWebhookSecret } from '../config.ts'

/** `file`: null when it comes from the configuration. */
export type WebhookSecret = Omit<KeptSecret, 'file'> & { file: string | null }

/** The configured secret, or the one in `$home/webhook.secret`, made once. null where there are no receivers. */
export async function webhookSecret({
  webhooks,
  home,
}: Pick<Config, 'webhooks' | 'home'>): Promise<WebhookSecret | null> {
  if (webhooks.urls.length === 0) return null
  if (webhooks.signingKey !== null) return { secret: webhooks.signingKey, file: null, fresh: false, wasOpen: false }
  return await keepSecret(
    join(home, 'webhook.secret'),
    () => `whsec_${randomBytes(32).toString('base64')}`,
    isWebhookSecret,
    'MLX_TRAINING_WEBHOOK_SECRET',
  )
}
