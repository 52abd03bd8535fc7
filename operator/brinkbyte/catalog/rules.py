"""The billing rules that a price list states. Most have one value: what the code implements."""

from typing import Literal

from brinkbyte.catalog.values import Count, Frozen, Name, Percent, Positive


class MoneyRules(Frozen):
    """Rounding of money and its currency."""

    minor_units: Count
    rounding: Literal["half_even"]
    rounded: Literal["once_per_line"]
    tax: Literal["excluded"]
    currencies_per_customer: Literal[1]


class PrepaidRules(Frozen):
    """When a change of a prepaid quantity counts."""

    rise: Literal["at_once_by_days_left"]
    today: Literal["included"]
    day_quantity: Literal["highest"]
    day_boundary: Literal["UTC"]
    fall: Literal["next_period"]
    occupancy: Literal["never_changes_an_invoice"]


class PlanChangeRules(Frozen):
    """When a change of plan counts."""

    higher: Literal["at_once_fee_difference_by_days_left"]
    higher_allowance: Literal["whole_period"]
    lower: Literal["next_period"]


class CancellationRules(Frozen):
    """What "cancel now" means."""

    now: Literal["ends_today"]
    refund: Literal["none"]


class AnnualPaymentRules(Frozen):
    """Monthly items paid twelve months ahead; `percent` null: not offered but by agreement."""

    percent: Percent | None
    ahead: Literal["twelve_months"]
    rise: Literal["at_once_by_days_left_in_year"]
    fall: Literal["next_year"]
    usage: Literal["monthly"]


class DiscountRules(Frozen):
    """Whose discounts are, and which counts first."""

    scope: Literal["per_tenant"]
    order: Literal["annual_percent_then_promotions_as_redeemed"]


class GaugeRules(Frozen):
    """How daily snapshots of a gauge become the period's value."""

    period_value: Literal["mean_of_daily_snapshots"]
    missing_snapshot: Literal["repeat_last"]
    bytes_per_gb: Positive


class SoftCapRules(Frozen):
    """A soft cap without overage: warn, then refuse at a percentage or after days over."""

    warn_percent: Positive
    refuse_percent: Positive
    refuse_after_days_over: Positive


class DeviceLimitRules(Frozen):
    """Where the device limit comes from."""

    with_device_plan: Literal["plan"]
    otherwise: Literal["devices_bought"]


class Rules(Frozen):
    """Billing rules; a literal with one value is a rule that the code implements as named."""

    money: MoneyRules
    prepaid: PrepaidRules
    plan_change: PlanChangeRules
    cancellation: CancellationRules
    annual_payment: AnnualPaymentRules
    yearly: Literal["own_anniversary"]
    once: Literal["once_per_customer"]
    counter: Literal["sum"]
    gauge: GaugeRules
    event_family: Literal["emitter_credential"]
    overage: Literal["linear"]
    pass_through: Literal["cost_of_the_event"]
    discounts: DiscountRules
    soft_cap: SoftCapRules
    alert_percents: tuple[Positive, ...]
    device_limit: DeviceLimitRules
    plan_claim_order: tuple[Name, ...]
