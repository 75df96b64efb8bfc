(** Sums, greatest and least entries of lists: what the other files need of them. *)

From Coq Require Import Reals List Lra Lia Permutation.
From Memlm Require Import Definitions.
Import ListNotations.
Open Scope R_scope.

Section Sums.
Context {A : Type}.
Implicit Types (l : list A) (f h : A -> R).

Lemma sum_le : forall l f h, (forall a, In a l -> f a <= h a) -> sum (map f l) <= sum (map h l).
Proof.
  induction l as [| a l IH]; intros f h H; simpl; [lra |].
  pose proof (H a (or_introl eq_refl)). pose proof (IH f h (fun b hb => H b (or_intror hb))). unfold sum in *. lra.
Qed.

Lemma sum_scale : forall l f c, sum (map (fun a => c * f a) l) = c * sum (map f l).
Proof. induction l as [| a l IH]; intros f c; simpl; [| unfold sum in *; rewrite IH]; ring. Qed.

Lemma sum_plus : forall l f h, sum (map (fun a => f a + h a) l) = sum (map f l) + sum (map h l).
Proof. induction l as [| a l IH]; intros f h; simpl; [| unfold sum in *; rewrite IH]; ring. Qed.

Lemma sum_constant : forall l c, sum (map (fun _ => c) l) = count l * c.
Proof.
  unfold count. induction l as [| a l IH]; intros c; [simpl; ring |].
  cbn [map length]. rewrite S_INR. unfold sum in *. simpl fold_right. rewrite IH. ring.
Qed.

Lemma sum_nonnegative : forall l f, (forall a, 0 <= f a) -> 0 <= sum (map f l).
Proof.
  induction l as [| a l IH]; intros f H; simpl; [lra |].
  pose proof (H a). pose proof (IH f H). unfold sum in *. lra.
Qed.

Lemma sum_positive : forall l f, l <> [] -> (forall a, 0 < f a) -> 0 < sum (map f l).
Proof.
  intros [| a l] f Hl H; [easy |]. simpl. pose proof (H a).
  pose proof (sum_nonnegative l f (fun b => Rlt_le _ _ (H b))). unfold sum in *. lra.
Qed.

(** A sum of positive terms is at least each of them, and more as soon as there are two. *)
Lemma term_le_sum : forall l f a, In a l -> (forall b, 0 < f b) -> f a <= sum (map f l).
Proof.
  induction l as [| b l IH]; intros f a Ha H; [easy | destruct Ha as [-> | Ha]; simpl].
  - pose proof (sum_nonnegative l f (fun c => Rlt_le _ _ (H c))). unfold sum in *. lra.
  - pose proof (IH f a Ha H). pose proof (H b). unfold sum in *. lra.
Qed.

Lemma term_lt_sum : forall l f a, In a l -> (2 <= length l)%nat -> (forall b, 0 < f b) -> f a < sum (map f l).
Proof.
  intros [| b [| c l]] f a Ha Hlen H; simpl in Hlen; try lia.
  destruct Ha as [-> | Ha]; cbn [map sum fold_right].
  - pose proof (sum_positive (c :: l) f ltac:(easy) H). cbn [map sum fold_right] in *. unfold sum in *. lra.
  - pose proof (term_le_sum (c :: l) f a Ha H). pose proof (H b). cbn [map sum fold_right] in *. unfold sum in *. lra.
Qed.

Lemma map_nonempty : forall {B : Type} l (f : A -> B), l <> [] -> map f l <> [].
Proof. intros B [| a l] f Hl; easy. Qed.

End Sums.

Lemma sum_swap : forall {A B : Type} (l : list A) (k : list B) f,
  sum (map (fun a => sum (map (f a) k)) l) = sum (map (fun b => sum (map (fun a => f a b) l)) k).
Proof.
  intros A B l k f. induction l as [| a l IH]; [cbn; now rewrite (sum_constant k 0), Rmult_0_r |].
  transitivity (sum (map (f a) k) + sum (map (fun a => sum (map (f a) k)) l)); [reflexivity |].
  rewrite IH, <- sum_plus. reflexivity.
Qed.

Lemma sum_append : forall xs ys, sum (xs ++ ys) = sum xs + sum ys.
Proof. unfold sum. induction xs as [| x xs IH]; intros ys; simpl; [| rewrite IH]; ring. Qed.

Lemma sum_permuted : forall xs ys, Permutation xs ys -> sum xs = sum ys.
Proof. unfold sum. induction 1; simpl; congruence || ring. Qed.

(** What makes [maximum] the greatest entry: it is an entry, and no entry exceeds it. Likewise [minimum]. *)
Lemma maximum_is_entry : forall xs, xs <> [] -> In (maximum xs) xs.
Proof.
  induction xs as [| x [| y xs] IH]; intros H; [easy | now left |].
  change (maximum (x :: y :: xs)) with (Rmax x (maximum (y :: xs))).
  unfold Rmax. destruct Rle_dec; [right; now apply IH | now left].
Qed.

Lemma maximum_bounds : forall xs x, In x xs -> x <= maximum xs.
Proof.
  induction xs as [| y [| z xs] IH]; intros x H; [easy | destruct H as [<- | []]; simpl; lra |].
  change (maximum (y :: z :: xs)) with (Rmax y (maximum (z :: xs))).
  pose proof (Rmax_l y (maximum (z :: xs))). pose proof (Rmax_r y (maximum (z :: xs))).
  destruct H as [<- | H]; [lra | pose proof (IH x H); lra].
Qed.

Lemma minimum_is_entry : forall xs, xs <> [] -> In (minimum xs) xs.
Proof.
  induction xs as [| x [| y xs] IH]; intros H; [easy | now left |].
  change (minimum (x :: y :: xs)) with (Rmin x (minimum (y :: xs))).
  unfold Rmin. destruct Rle_dec; [now left | right; now apply IH].
Qed.

Lemma minimum_bounds : forall xs x, In x xs -> minimum xs <= x.
Proof.
  induction xs as [| y [| z xs] IH]; intros x H; [easy | destruct H as [<- | []]; simpl; lra |].
  change (minimum (y :: z :: xs)) with (Rmin y (minimum (z :: xs))).
  pose proof (Rmin_l y (minimum (z :: xs))). pose proof (Rmin_r y (minimum (z :: xs))).
  destruct H as [<- | H]; [lra | pose proof (IH x H); lra].
Qed.

Lemma minimum_is_opposite_of_maximum : forall xs, xs <> [] -> minimum xs = - maximum (map Ropp xs).
Proof.
  intros xs H. apply Rle_antisym.
  - pose proof (maximum_is_entry (map Ropp xs) (map_nonempty xs Ropp H)) as Hin.
    apply in_map_iff in Hin as (x & <- & Hx). rewrite Ropp_involutive. now apply minimum_bounds.
  - pose proof (maximum_bounds (map Ropp xs) (- minimum xs) (in_map Ropp _ _ (minimum_is_entry xs H))). lra.
Qed.

(** Two vectors of the same length are the two sides of a list of pairs. *)
Lemma sides_of_pairs :
  forall xs ys : list R, length xs = length ys -> map fst (combine xs ys) = xs /\ map snd (combine xs ys) = ys.
Proof.
  induction xs as [| x xs IH]; intros [| y ys] H; try easy.
  injection H as H. destruct (IH ys H). simpl. split; congruence.
Qed.

Lemma pairs_nonempty : forall xs ys : list R, xs <> [] -> length xs = length ys -> combine xs ys <> [].
Proof. intros [| x xs] [| y ys] Hx H; easy. Qed.
